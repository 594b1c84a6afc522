"""The health of a checkpoint file, without loading it: no torch, no import, no code of the file's is run.

    shards -> child process: (archive + pickles | safetensors) -> tensors -> grouping -> scan -> report (-> fixing)

A file is read by a child under limits of memory, time and file size; the parent gets a `Report` or a reason. torch's
zip files are read as zips whose records are stored as they are; their pickle is unpickled into inert placeholders, so
that a Namespace, a Path or a numpy number of the user's is no obstacle, and a pickle that names something dangerous is
refused. Numbers are judged in pieces, so that memory does not grow with the file.

The entry is `trainvitals.diagnose.parent.diagnose`.
"""
