"""Checkpoints of every origin: told by their first bytes, checked before they are loaded, named as the model names them.

kinds      what a file is, by its first bytes
zips       torch's archives, checked before anything in them is loaded
pickles    torch's pickles; no code is run, and what is no tensor becomes an inert stand-in
folders    save_pretrained, shards, adapters
search     which state dict of a file is meant
naming     from the names on disk to the names in the model
reading    all of it together
writing    files, and folders of the kind that an end came from
"""

from dss.adapters.reading import Checkpoint, CheckpointNotice, load_checkpoint, load_point, load_state
from dss.adapters.writing import save_like, save_state

__all__ = ["Checkpoint", "CheckpointNotice", "load_checkpoint", "load_point", "load_state", "save_like", "save_state"]
