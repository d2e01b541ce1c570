// The fastest one can step MuJoCo on this machine: threads that call mj_step and do nothing else.
//
// Every world starts from its own state and takes num_steps control steps under its own controls, one world after the other
// on whichever thread is free, so each thread's mjData stays in its cache.

#include <mujoco/mujoco.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

typedef struct {
  const mjModel* model;
  int num_worlds, num_steps, frame_skip;
  const double* start;  // [num_worlds, nq + nv]
  const double* ctrl;   // [num_steps, num_worlds, nu]
  double* end;          // [num_worlds, nq + nv]
  int next_world;
} Work;

typedef struct {
  Work* work;
  mjData* data;
  pthread_t thread;
} Worker;

static void* run(void* argument) {
  Worker* worker = argument;
  Work* work = worker->work;
  const mjModel* m = worker->work->model;
  mjData* d = worker->data;
  const int nq = m->nq, nv = m->nv, nu = m->nu;
  for (;;) {
    const int world = __atomic_fetch_add(&work->next_world, 1, __ATOMIC_RELAXED);
    if (world >= work->num_worlds) return NULL;
    mj_resetData(m, d);
    memcpy(d->qpos, work->start + world * (nq + nv), nq * sizeof(double));
    memcpy(d->qvel, work->start + world * (nq + nv) + nq, nv * sizeof(double));
    mj_forward(m, d);
    for (int step = 0; step < work->num_steps; ++step) {
      memcpy(d->ctrl, work->ctrl + ((size_t)step * work->num_worlds + world) * nu, nu * sizeof(double));
      for (int substep = 0; substep < work->frame_skip; ++substep) mj_step(m, d);
    }
    memcpy(work->end + world * (nq + nv), d->qpos, nq * sizeof(double));
    memcpy(work->end + world * (nq + nv) + nq, d->qvel, nv * sizeof(double));
  }
}

// Seconds for all worlds; -1 for more than 256 threads or where one can't be started. Memory is allocated before the clock starts.
double raw_loop(const mjModel* model, int num_threads, int num_worlds, int num_steps, int frame_skip,
                const double* start, const double* ctrl, double* end) {
  Worker workers[256];
  if (num_threads > 256) return -1;
  Work work = {model, num_worlds, num_steps, frame_skip, start, ctrl, end, 0};
  for (int i = 0; i < num_threads; ++i) workers[i] = (Worker){&work, mj_makeData(model), 0};
  struct timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  int started = 0;
  while (started < num_threads && !pthread_create(&workers[started].thread, NULL, run, &workers[started])) ++started;
  for (int i = 0; i < started; ++i) pthread_join(workers[i].thread, NULL);
  clock_gettime(CLOCK_MONOTONIC, &after);
  for (int i = 0; i < num_threads; ++i) mj_deleteData(workers[i].data);
  if (started < num_threads) return -1;
  return (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
}
