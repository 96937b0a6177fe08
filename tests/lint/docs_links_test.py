"""script/docs-links over documents that are made here."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "script" / "docs-links"


def check(readme):
    """(exit code, printed lines) for a README beside docs/api.md, which has the heading "POST /chat"."""
    with tempfile.TemporaryDirectory() as root:
        (pathlib.Path(root) / "docs").mkdir()
        (pathlib.Path(root) / "docs" / "api.md").write_text("# API\n\n## POST /chat\n\n[home](../README.md)\n")
        (pathlib.Path(root) / "README.md").write_text(readme)
        result = subprocess.run([sys.executable, SCRIPT, root], capture_output=True, text=True, check=False)
        return result.returncode, result.stdout.splitlines()


class DocsLinks(unittest.TestCase):
    def test_what_exists(self):
        readme = "# Us\n\n[a](docs/api.md) [b](docs/api.md#post-chat) [c](#us) [d](https://example.org/x.md) `docs/api.md`\n"
        self.assertEqual(check(readme), (0, []))

    def test_what_does_not(self):
        for readme, printed in (
            ("\n[a](docs/gone.md)\n", "README.md:2: docs/gone.md: there is no such file"),
            ("[a](docs/api.md#post-embed)\n", "README.md:1: docs/api.md#post-embed: api.md has no such heading"),
            ("Read `src/gone.h`.\n", "README.md:1: `src/gone.h`: there is no such file"),
        ):
            self.assertEqual(check(readme), (1, [printed]))

    def test_fenced_code_is_left_alone(self):
        self.assertEqual(check("```\n[a](gone.md)\n```\n"), (0, []))


if __name__ == "__main__":
    unittest.main()
