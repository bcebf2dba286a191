/* The heat in a plate: each process has its rows, and shares the first and the last of them with its neighbours. */
#include <dsm/dsm.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SIZE 256 /* cells in a row, and rows */
#define STEPS 300
#define ROW_SIZE (SIZE * sizeof(double))

static void check(int status) {
  if (status == DSM_OK) return;
  fprintf(stderr, "plate: %s\n", dsm_last_error());
  exit(1);
}

static double milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* A hot ring in a cold plate. */
static double start(int row, int column) {
  double distance = hypot(row - SIZE / 2, column - SIZE / 2) / (SIZE / 2);
  return distance > 0.5 && distance < 0.7 ? 1 : 0;
}

int main(void) {
  dsm_config config;
  check(dsm_config_init(&config));
  config.size = 4 << 20;
  config.order = "release";
  dsm_session *session;
  check(dsm_open(&config, &session));
  int rank = dsm_rank(session), processes = dsm_processes(session);
  int first = SIZE * rank / processes, end = SIZE * (rank + 1) / processes, rows = end - first;

  /* Its rows, with one of each neighbour around them: row `first` of the plate is row 1 here. */
  static double memory[2][SIZE + 2][SIZE];
  double(*now)[SIZE] = memory[0], (*next)[SIZE] = memory[1];
  for (int row = 0; row < rows; row++) {
    for (int column = 0; column < SIZE; column++) now[row + 1][column] = start(first + row, column);
  }

  /* Two plates, for odd and even steps, of which only rows at borders are used, until the last step. */
  double(*plates[2])[SIZE];
  check(dsm_named(session, "even", SIZE * ROW_SIZE, (void **)&plates[0]));
  check(dsm_named(session, "odd", SIZE * ROW_SIZE, (void **)&plates[1]));

  check(dsm_barrier_wait(session));
  double began = milliseconds();
  for (int step = 0; step < STEPS; step++) {
    double(*plate)[SIZE] = plates[step % 2];
    memcpy(plate[first], now[1], ROW_SIZE);
    memcpy(plate[end - 1], now[rows], ROW_SIZE);
    check(dsm_barrier_wait(session)); /* publishes both rows at once, and then those of the neighbours are there */
    if (rank > 0) memcpy(now[0], plate[first - 1], ROW_SIZE);
    if (rank < processes - 1) memcpy(now[rows + 1], plate[end], ROW_SIZE);
    for (int row = 1; row <= rows; row++) {
      if (first + row == 1 || first + row == SIZE) continue; /* the edge of the plate stays cold */
      for (int i = 1; i < SIZE - 1; i++) {
        next[row][i] = 0.25 * (now[row - 1][i] + now[row + 1][i] + now[row][i - 1] + now[row][i + 1]);
      }
    }
    double(*old)[SIZE] = now;
    now = next;
    next = old;
  }
  double(*plate)[SIZE] = plates[STEPS % 2];
  memcpy(plate[first], now[1], rows * ROW_SIZE);
  check(dsm_barrier_wait(session));
  double took = milliseconds() - began;

  if (rank == 0) {
    double sum = 0;
    for (int row = 0; row < SIZE; row++) {
      for (int column = 0; column < SIZE; column++) sum += plate[row][column];
    }
    printf("plate: mean %.9f, %d processes, %.0f ms\n", sum / (SIZE * SIZE), processes, took);
  }
  check(dsm_close(session));
  return 0;
}
