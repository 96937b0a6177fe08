#include "bench/load/words.h"

#include <array>
#include <random>
#include <string_view>

namespace cortex {
namespace {

constexpr std::array<std::string_view, 128> kWords = {
    "time",   "year",   "people",  "way",     "day",     "man",     "thing",    "woman",   "life",       "child",
    "world",  "school", "state",   "family",  "student", "group",   "country",  "problem", "hand",       "part",
    "place",  "case",   "week",    "company", "system",  "program", "question", "work",    "government", "number",
    "night",  "point",  "home",    "water",   "room",    "mother",  "area",     "money",   "story",      "fact",
    "month",  "lot",    "right",   "study",   "book",    "eye",     "job",      "word",    "business",   "issue",
    "side",   "kind",   "head",    "house",   "service", "friend",  "father",   "power",   "hour",       "game",
    "line",   "end",    "member",  "law",     "car",     "city",    "name",     "team",    "minute",     "idea",
    "body",   "back",   "parent",  "face",    "others",  "level",   "office",   "door",    "health",     "person",
    "art",    "war",    "history", "party",   "result",  "change",  "morning",  "reason",  "research",   "girl",
    "moment", "air",    "teacher", "force",   "order",   "foot",    "boy",      "age",     "policy",     "process",
    "music",  "market", "sense",   "nation",  "plan",    "college", "interest", "death",   "course",     "experience",
    "effect", "use",    "class",   "control", "field",   "role",    "effort",   "rate",    "heart",      "drug",
    "light",  "voice",  "wife",    "police",  "mind",    "price",   "report",   "decision"};

}  // namespace

std::string random_words(std::uint64_t seed, int count) {
  std::mt19937_64 random(seed);
  std::string text;
  for (int i = 0; i < count; ++i) {
    if (i > 0) text += ' ';
    text += kWords[random() % kWords.size()];  // of a power of two: each is as likely
  }
  return text;
}

// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
std::uint64_t seed_of(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t mixed = seed + (index + 1) * 0x9e3779b97f4a7c15u;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
  return mixed ^ (mixed >> 31);
}

}  // namespace cortex
