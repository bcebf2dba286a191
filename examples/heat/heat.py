"""The heat in a square plate, by Jacobi's method, in NumPy: at every step each cell gets the mean of its four
neighbours. Each process computes a band of rows and shares only the first and the last of them.

  dsm run -n 4 -- python3 examples/heat/heat.py --check
"""

import argparse
import os
import sys

import dsm
import numpy as np


def start(size: int) -> np.ndarray:
    """The plate at the start: hot at the top, and a hot ring in the middle."""
    row, column = np.ogrid[:size, :size]
    square = (2 * row + 1 - size) ** 2 + (2 * column + 1 - size) ** 2
    plate = np.where((square * 25 > size * size * 4) & (square * 4 < size * size), 1.0, 0.0)
    plate[0, :] = 1.0
    plate[-1, :] = plate[1:, 0] = plate[1:, -1] = 0.0
    return plate


def relax(now: np.ndarray) -> np.ndarray:
    """The inner rows and columns of `now` after one step."""
    return (now[:-2, 1:-1] + now[2:, 1:-1] + now[1:-1, :-2] + now[1:-1, 2:]) * 0.25


def together(session: dsm.Session, size: int, steps: int) -> np.ndarray:
    # Two sets of outer rows, for the even and the odd steps: while a neighbour still reads one, we write the other.
    edges = session.array("edges", np.float64, (2, session.processes, 2, size))
    plate = session.array("plate", np.float64, (size, size))
    rank, processes = session.rank, session.processes
    first, last = (1 + (size - 2) * part // processes for part in (rank, rank + 1))
    own = start(size)[first - 1 : last + 1].copy()  # our rows, and one of each neighbour's
    for step in range(steps):
        own[1:-1, 1:-1] = relax(own)
        mine = edges[step % 2]
        mine[rank, 0], mine[rank, 1] = own[1], own[-2]
        session.barrier()
        if rank > 0:
            own[0] = mine[rank - 1, 1]
        if rank < processes - 1:
            own[-1] = mine[rank + 1, 0]
    with session.hole(plate[first:last]):
        plate[first:last] = own[1:-1]
    if rank == 0:
        plate[0] = own[0]
    if rank == processes - 1:
        plate[-1] = own[-1]
    session.barrier()
    return plate


def main() -> int:
    parser = argparse.ArgumentParser(description="Spreads the heat of a ring in a plate of SIZE x SIZE cells.")
    parser.add_argument("--size", type=int, default=256, help="cells of a side, 16 to 4096 (default: 256)")
    parser.add_argument("--steps", type=int, default=100, help="1 to 1000000 (default: 100)")
    parser.add_argument("--check", action="store_true", help="compare with the result of one process, byte for byte")
    options = parser.parse_args()
    if not 16 <= options.size <= 4096 or not 1 <= options.steps <= 1_000_000:
        parser.error("--size is 16 to 4096, --steps 1 to 1000000")
    size, steps = options.size, options.steps
    # Room for the plate and for the edges of 64 processes; DSM_SIZE, or dsm run --size, says otherwise.
    room = None if "DSM_SIZE" in os.environ else size * size * 8 + 64 * 4 * size * 8 + 4096
    with dsm.join(size=room) as session:
        if session.processes > (size - 2) // 2:
            print(f"heat: {size} rows are too few for {session.processes} processes", file=sys.stderr)
            return 1
        plate = together(session, size, steps)
        if session.rank != 0:
            return 0
        print(f"heat: {size} x {size} cells, {steps} steps, mean temperature {plate.mean():.10f}")
        if not options.check:
            return 0
        alone = start(size)
        for _ in range(steps):
            alone[1:-1, 1:-1] = relax(alone)
        if not np.array_equal(alone, plate):
            print("heat: differs from the sequential result", file=sys.stderr)
            return 1
        print("heat: the same as the sequential result, byte for byte")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except dsm.Error as error:
        print(f"heat: {error}", file=sys.stderr)
        sys.exit(1)
