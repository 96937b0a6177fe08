# Everything comes from the system's packages or from what script/setup unpacked under .deps.
set(CORTEX_DEPS "${PROJECT_SOURCE_DIR}/.deps" CACHE PATH "Where script/setup unpacks what the system does not package")

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(simdjson REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(SQLite3 REQUIRED)
find_package(CURL REQUIRED)
find_package(Boost 1.81 REQUIRED)
# One definition for all that include Boost: src/http/boost_assertion.cpp is the handler.
target_compile_definitions(Boost::headers INTERFACE BOOST_ENABLE_ASSERT_HANDLER)
find_package(prometheus-cpp REQUIRED COMPONENTS core)

# Debian's has no CMake package.
find_library(XXHASH_LIBRARY xxhash REQUIRED)
find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
add_library(xxhash INTERFACE)
target_link_libraries(xxhash INTERFACE "${XXHASH_LIBRARY}")
target_include_directories(xxhash SYSTEM INTERFACE "${XXHASH_INCLUDE_DIR}")

# Its CMake package wants programs that Debian has elsewhere.
find_library(ZIP_LIBRARY zip REQUIRED)
find_path(ZIP_INCLUDE_DIR zip.h REQUIRED)
add_library(zip INTERFACE)
target_link_libraries(zip INTERFACE "${ZIP_LIBRARY}")
target_include_directories(zip SYSTEM INTERFACE "${ZIP_INCLUDE_DIR}")

# Headers only; Debian's package of it would pull in another Boost, so script/setup unpacks it.
find_path(MSGPACK_INCLUDE_DIR msgpack.hpp HINTS "${CORTEX_DEPS}/msgpack/usr/include" REQUIRED)
add_library(msgpack INTERFACE)
target_include_directories(msgpack SYSTEM INTERFACE "${MSGPACK_INCLUDE_DIR}")
target_compile_definitions(msgpack INTERFACE MSGPACK_NO_BOOST)

if(CORTEX_MLX_BACKEND)
  find_package(MLX CONFIG REQUIRED PATHS "${CORTEX_DEPS}/mlx/mlx/share/cmake/MLX" NO_DEFAULT_PATH)
  if(NOT APPLE)
    find_library(OPENBLAS_LIBRARY openblas REQUIRED)
  endif()
endif()
