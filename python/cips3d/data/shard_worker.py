"""The program behind render_shards: renders one shard a line of standard input ("start stop"), answering "done".

    python -m cips3d.data.shard_worker SEED RESOLUTION LOOK FOLDER

It ends with its parent, since the input then ends.
"""

import signal
import sys
from pathlib import Path

import torch

from cips3d.data.shards import render_shard


def main() -> None:
    """Serve standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    torch.set_num_threads(1)  # the processes are the parallelism
    seed, resolution, look, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    for line in sys.stdin:
        start, stop = map(int, line.split())
        render_shard(seed, start, stop, resolution, look, folder)
        print("done", flush=True)


if __name__ == "__main__":
    main()
