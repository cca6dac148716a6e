"""torch's archives, checked before anything in them is loaded.

torch never compresses: a compressed member is a bomb or a file of another program. The sums of the members' bytes are in the
archive, and torch does not look at them; a flipped bit in a weight would be believed.
"""

import zipfile
from pathlib import Path

from dss.adapters.kinds import first_line
from dss.base.errors import CheckpointError
from dss.base.quoting import shown

CHUNK = 1 << 20


def check_zip(file: Path) -> bytes:
    """Refuse an archive that torch did not write, or that was damaged since; the bytes of its pickle.

    Raises:
        CheckpointError: compressed, encrypted or repeated members, sizes beyond the file's, a wrong checksum, or no pickle.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_members(file, members)
            _check_sums(file, archive, members)
            return archive.read(_pickle_name(file, [m.filename for m in members]))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{shown(file)} is not a readable checkpoint, perhaps cut short: {first_line(error)}") from error


def _check_members(file: Path, members: list[zipfile.ZipInfo]) -> None:
    packed = [m for m in members if m.compress_type != zipfile.ZIP_STORED or m.compress_size != m.file_size]
    if packed:
        raise CheckpointError(
            f"{shown(file)} holds the compressed member {shown(packed[0].filename)}, and torch never compresses: it is not "
            "loaded; if it is yours, unpack it and save the state dict again"
        )
    if any(m.flag_bits & 1 for m in members):
        raise CheckpointError(f"{shown(file)} is encrypted; save the state dict with torch.save")
    if sum(m.file_size for m in members) > file.stat().st_size:
        raise CheckpointError(f"{shown(file)} is damaged: its members claim more bytes than the file has; copy it again")
    if len({m.filename for m in members}) < len(members):
        raise CheckpointError(f"{shown(file)} is damaged: it holds two members of one name")


def _check_sums(file: Path, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        try:
            with archive.open(member) as stream:
                while stream.read(CHUNK):
                    pass
        except zipfile.BadZipFile as error:
            raise CheckpointError(
                f"{shown(file)} is damaged: the checksum of {shown(member.filename)} is wrong; copy it again"
            ) from error


def _pickle_name(file: Path, names: list[str]) -> str:
    """The member with the structure; the others are storages."""
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(f"{shown(file)} is a TorchScript archive, which is code; save model.state_dict() alone")
    found = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(found) != 1:
        raise CheckpointError(f"{shown(file)} is a zip archive, but not a readable checkpoint of torch: it has no data.pkl")
    return found[0]
