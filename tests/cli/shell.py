"""The command line as a test types it."""

import json
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner, Result

from creditgate_server.cli.output import ExitCode
from creditgate_server.cli.program import app

IMAGES = ("--action", "image.generate", "--model", "recraft-v3")
VIDEO = ("--action", "video.generate", "--model", "video-studio")


@dataclass(frozen=True)
class Shell:
    """Runs `creditgate` against one server, and expects its exit code."""

    address: str

    def run(self, *words: str, code: ExitCode = ExitCode.OK, **env: str) -> Result:
        """What a command says."""
        runner = CliRunner(
            env={"CREDITGATE_ADDRESS": self.address, "COLUMNS": "200", "NO_COLOR": "1", **env}
        )
        result = runner.invoke(app, words)
        unexpected = result.exception and not isinstance(result.exception, SystemExit)
        assert not unexpected, repr(result.exception)
        assert result.exit_code == code, result.output
        return result

    def text(self, *words: str, code: ExitCode = ExitCode.OK) -> str:
        """What a command tells people, runs of spaces as one."""
        said = self.run(*words, code=code).output
        return "\n".join(" ".join(line.split()) for line in said.splitlines())

    def json(self, *words: str, code: ExitCode = ExitCode.OK) -> Any:
        """What a command tells programs: one document on stdout."""
        return json.loads(self.run(*words, "--json", code=code).stdout)

    def fault(self, *words: str, code: ExitCode = ExitCode.FAULT) -> Any:
        """What a command that fails tells programs: one document on stderr, nothing on stdout."""
        result = self.run(*words, "--json", code=code)
        assert not result.stdout
        return json.loads(result.stderr)
