/* MPI beside dsm, two processes: mpi barrier ROUNDS, or mpi put|send MIB ROUNDS. Rank 0 prints the nanoseconds of every
 * round, one a line. put: until the bytes are in the other's window; send: until the other says that it has them. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long long now_ns(void) {
  return (long long)(MPI_Wtime() * 1e9);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  int rank, ranks;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  int is_barrier = argc == 3 && strcmp(argv[1], "barrier") == 0;
  int puts_window = argc == 4 && strcmp(argv[1], "put") == 0;
  if ((!is_barrier && argc != 4) || ranks != 2) {
    fprintf(stderr, "usage: mpi barrier ROUNDS, or mpi put|send MIB ROUNDS, with 2 processes\n");
    return 2;
  }
  int rounds = atoi(argv[argc - 1]);
  int size = is_barrier ? 4096 : atoi(argv[2]) << 20;
  char *bytes = NULL, *from = malloc((size_t)size), said = 0;
  MPI_Win window;
  MPI_Win_allocate(size, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &bytes, &window);
  if (from == NULL)
    return 1;
  memset(bytes, 1, (size_t)size);
  memset(from, 2, (size_t)size);
  MPI_Win_lock_all(0, window);
  for (int i = 0; i < rounds; i++) {
    if (!is_barrier)
      MPI_Barrier(MPI_COMM_WORLD);
    long long start = now_ns();
    if (is_barrier) {
      MPI_Barrier(MPI_COMM_WORLD);
    } else if (puts_window && rank == 0) {
      MPI_Put(from, size, MPI_BYTE, 1, 0, size, MPI_BYTE, window);
      MPI_Win_flush(1, window);
    } else if (!puts_window && rank == 0) {
      MPI_Send(from, size, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
      MPI_Recv(&said, 1, MPI_BYTE, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else if (!puts_window) {
      MPI_Recv(bytes, size, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      MPI_Send(&said, 1, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
    }
    if (rank == 0)
      printf("%lld\n", now_ns() - start);
  }
  MPI_Win_unlock_all(window);
  MPI_Win_free(&window);
  free(from);
  MPI_Finalize();
  return 0;
}
