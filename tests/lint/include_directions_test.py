"""script/include-directions over trees that are made here."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "script" / "include-directions"


def check(files):
    """(exit code, printed lines) for a tree of {path: text}."""
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            path = pathlib.Path(root) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        result = subprocess.run([sys.executable, SCRIPT, root], capture_output=True, text=True, check=False)
        return result.returncode, result.stdout.splitlines()


class IncludeDirections(unittest.TestCase):
    def assert_breach(self, file, text, line, words):
        code, printed = check({f"src/{file}": text})
        self.assertEqual(code, 1)
        self.assertEqual(len(printed), 1, printed)
        self.assertTrue(printed[0].startswith(f"src/{file}:{line}: "), printed[0])
        self.assertIn(words, printed[0])

    def test_downwards_is_fine(self):
        code, printed = check({
            "src/main.cpp": '#include "cli/serve.h"\n',
            "src/http/router.cpp": '#include <boost/asio.hpp>\n#include "http/router.h"\n#include "service/chat.h"\n',
            "src/service/chat.cpp": '#include <simdjson.h>\n#include "engine/engine.h"\n#include "model/spec.h"\n',
            "src/engine/step.cpp": '#include <vector>\n#include "kv/block_pool.h"\n#include "backend/backend.h"\n',
            "src/backend/mlx/decoder.cpp": '#include <mlx/mlx.h>\n#include "backend/mlx/decoder.h"\n',
        })
        self.assertEqual((code, printed), (0, []))

    def test_upwards(self):
        self.assert_breach("base/log.cpp", '#include "base/log.h"\n\n#include "model/spec.h"\n', 3, "no other folder")
        self.assert_breach("engine/step.cpp", '  #  include "http/router.h"\n', 1, "engine may include kv")

    def test_only_the_one_header_of_the_engine(self):
        self.assert_breach("service/chat.cpp", '#include "engine/scheduler.h"\n', 1, "engine/engine.h")

    def test_libraries_outside_their_folders(self):
        self.assert_breach("engine/step.cpp", "#include <mlx/mlx.h>\n", 1, "backend/mlx only")
        self.assert_breach("backend/cpu/decoder.cpp", '#include "mlx/array.h"\n', 1, "backend/mlx only")
        self.assert_breach("text/tokenizer.cpp", "#include <simdjson.h>\n", 1, "http, service, model only")
        self.assert_breach("service/chat.cpp", "#include <boost/asio.hpp>\n", 1, "http, worker only")
        self.assert_breach("service/chat.cpp", '#include "text/text.h"\n', 1, "text only")

    def test_a_folder_that_nobody_thought_of(self):
        self.assert_breach("util/strings.h", "#include <string>\n", 1, "util is not in the table")

    def test_no_sources_is_an_error(self):
        code, printed = check({"README.md": ""})
        self.assertEqual((code, printed), (1, []))


if __name__ == "__main__":
    unittest.main()
