"""The one folder for what can be computed or fetched again at any time.

Input: the environment. Output: a folder, which need not exist yet. In it: hashes of files, unpacked archives, versions
brought from buckets, pictures for training, compiled operators. A cluster's machines must share it where they train.
"""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "INFI_MMR_CACHE"


def cache_folder() -> Path:
    """`$INFI_MMR_CACHE`, else `$XDG_CACHE_HOME/infi-mmr`, else `~/.cache/infi-mmr`.

    A relative `XDG_CACHE_HOME` counts as unset, as the XDG base directory specification has it.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "infi-mmr"
