// The fastest one can step MuJoCo on this machine: threads that call mj_step and do nothing else.
//
// Every world starts from its own state and takes num_steps control steps under its own controls on whichever thread is free,
// so each thread's mjData stays in its cache. Either one world after the other to its end; or, as whoever chooses each action by
// what the last one did must, all worlds by one control step, and then all threads wait for the last.

#include <mujoco/mujoco.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
  const mjModel* model;
  int num_worlds, num_steps, frame_skip;
  const double* start;  // [num_worlds, nq + nv]
  const double* ctrl;   // [num_steps, num_worlds, nu]
  double* end;          // [num_worlds, nq + nv]
  double* between;      // [num_worlds, size of the state] step by step: what mj_step takes over from the step before
  int next;             // world, or step * num_worlds + world
  int done;             // of step * num_worlds + world
} Work;

typedef struct {
  Work* work;
  mjData* data;
  pthread_t thread;
} Worker;

static void begin(const Work* work, mjData* d, int world) {
  const mjModel* m = work->model;
  const int nq = m->nq, nv = m->nv;
  mj_resetData(m, d);
  memcpy(d->qpos, work->start + world * (nq + nv), nq * sizeof(double));
  memcpy(d->qvel, work->start + world * (nq + nv) + nq, nv * sizeof(double));
  mj_forward(m, d);
}

static void control_step(const Work* work, mjData* d, int step, int world) {
  const int nu = work->model->nu;
  memcpy(d->ctrl, work->ctrl + ((size_t)step * work->num_worlds + world) * nu, nu * sizeof(double));
  for (int substep = 0; substep < work->frame_skip; ++substep) mj_step(work->model, d);
}

static void finish(const Work* work, const mjData* d, int world) {
  const int nq = work->model->nq, nv = work->model->nv;
  memcpy(work->end + world * (nq + nv), d->qpos, nq * sizeof(double));
  memcpy(work->end + world * (nq + nv) + nq, d->qvel, nv * sizeof(double));
}

static void* world_by_world(void* argument) {
  Worker* worker = argument;
  Work* work = worker->work;
  for (;;) {
    const int world = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);
    if (world >= work->num_worlds) return NULL;
    begin(work, worker->data, world);
    for (int step = 0; step < work->num_steps; ++step) control_step(work, worker->data, step, world);
    finish(work, worker->data, world);
  }
}

static void* step_by_step(void* argument) {
  Worker* worker = argument;
  Work* work = worker->work;
  const mjModel* m = work->model;
  mjData* d = worker->data;
  const int size = mj_stateSize(m, mjSTATE_INTEGRATION);
  for (;;) {
    const int next = __atomic_fetch_add(&work->next, 1, __ATOMIC_RELAXED);
    const int step = next / work->num_worlds, world = next % work->num_worlds;
    if (step >= work->num_steps) return NULL;
    // The worlds of the step before must be done. Waits spinning: to sleep and be woken takes longer than that mostly lasts.
    while (__atomic_load_n(&work->done, __ATOMIC_ACQUIRE) < step * work->num_worlds) sched_yield();
    if (step == 0) begin(work, d, world);
    else mj_setState(m, d, work->between + (size_t)world * size, mjSTATE_INTEGRATION);
    control_step(work, d, step, world);
    mj_getState(m, d, work->between + (size_t)world * size, mjSTATE_INTEGRATION);
    if (step == work->num_steps - 1) finish(work, d, world);
    __atomic_fetch_add(&work->done, 1, __ATOMIC_RELEASE);
  }
}

// Seconds for all worlds; -1 for more than 256 threads, or where one can't be started or memory is short. Memory is allocated before the clock starts.
double raw_loop(const mjModel* model, int num_threads, int num_worlds, int num_steps, int frame_skip, int waits,
                const double* start, const double* ctrl, double* end) {
  Worker workers[256];
  if (num_threads > 256) return -1;
  double* between = malloc((size_t)num_worlds * mj_stateSize(model, mjSTATE_INTEGRATION) * sizeof(double));
  if (!between) return -1;
  Work work = {model, num_worlds, num_steps, frame_skip, start, ctrl, end, between, 0, 0};
  void* (*run)(void*) = waits ? step_by_step : world_by_world;
  for (int i = 0; i < num_threads; ++i) workers[i] = (Worker){&work, mj_makeData(model), 0};
  struct timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  int started = 0;
  while (started < num_threads && !pthread_create(&workers[started].thread, NULL, run, &workers[started])) ++started;
  for (int i = 0; i < started; ++i) pthread_join(workers[i].thread, NULL);
  clock_gettime(CLOCK_MONOTONIC, &after);
  for (int i = 0; i < num_threads; ++i) mj_deleteData(workers[i].data);
  free(between);
  if (started < num_threads) return -1;
  return (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
}
