"""What a run folder says of itself."""

from __future__ import annotations

import pytest

from sil_cli.errors import ModelError
from sil_cli.runs.run_folder import FACTS_FILE, read_facts


@pytest.mark.parametrize("content", ["5", "null", "[]", "{}", '"bfloat16"'])
def test_facts_that_are_none(tmp_path, content: str) -> None:
    (tmp_path / FACTS_FILE).write_text(content)
    with pytest.raises(ModelError, match=r"run\.json can't be read by this version"):
        read_facts(tmp_path)
