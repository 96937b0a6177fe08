"""script/commit-message over messages good and bad."""

import pathlib
import subprocess
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "script" / "commit-message"


def complaint(message):
    """What the script prints about a message; None if it passes."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(message)
        file.flush()
        result = subprocess.run([SCRIPT, file.name], capture_output=True, text=True, check=False)
        return result.stderr if result.returncode else None


class CommitMessage(unittest.TestCase):
    def test_good(self):
        for message in (
            "fix: a race\n",
            "feat(http)!: refuse a second Host header\n\nIt was ignored.\n",
            "# what git wrote above\ndocs(api): errors of /chat\n# and below\n",
            "Merge branch 'main'\n",
        ):
            self.assertIsNone(complaint(message), message)

    def test_bad(self):
        for message, words in (
            ("Fix a race\n", "is not type(scope): what"),
            ("feature: a race\n", "is not type(scope): what"),
            ("fix(http):a race\n", "is not type(scope): what"),
            ("fix: a race.\n", "without a full stop"),
            ("", "is not type(scope): what"),
            ("fix: " + "a" * 96 + "\n", "101 characters"),
            ("fix: a race\nin the loop\n", "second line"),
        ):
            self.assertIn(words, complaint(message) or "passed", message)


if __name__ == "__main__":
    unittest.main()
