// Threads that wait for work: one pool for all kernels of a process.
//
// Not OpenMP: some compilers come without its runtime, its threads spin while they wait,
// and it does not survive a fork. Who takes which part is left to chance; kernels see to it
// that no result depends on that.
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <unistd.h>

using Work = void (*)(void *context, int64_t part);

class Pool {
 public:
  // Whether the threads are those of this process, not of one that it was forked from.
  bool is_mine() const { return process == getpid(); }

  void run(Work new_work, void *new_context, int64_t new_n_parts, int64_t n_threads) {
    std::unique_lock<std::mutex> alone(busy, std::try_to_lock);
    if (!alone) {  // another thread of the caller's has the pool
      for (int64_t part = 0; part < new_n_parts; ++part) new_work(new_context, part);
      return;
    }
    grow(n_threads - 1);
    {
      std::lock_guard<std::mutex> lock(mutex);
      work = new_work, context = new_context, n_parts = new_n_parts, next = 0;
      seats = n_threads - 1;
    }
    begin.notify_all();
    take_parts();
    // Those that have not begun by now are not waited for.
    std::unique_lock<std::mutex> lock(mutex);
    seats = 0;
    end.wait(lock, [this] { return active == 0; });
  }

 private:
  void grow(int64_t wanted) {
    try {
      for (; n_workers < wanted; ++n_workers) std::thread([this] { serve(); }).detach();
    } catch (const std::system_error &) {  // no more to be had: fewer do the work
    }
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      begin.wait(lock, [this] { return seats > 0; });
      --seats, ++active;
      lock.unlock();
      take_parts();
      lock.lock();
      seats = 0;
      if (--active == 0) end.notify_one();
    }
  }

  void take_parts() {
    for (int64_t part; (part = next.fetch_add(1)) < n_parts;) work(context, part);
  }

  const pid_t process = getpid();
  std::mutex busy, mutex;
  std::condition_variable begin, end;
  int64_t n_workers = 0, seats = 0, active = 0, n_parts = 0;
  std::atomic<int64_t> next{0};
  Work work = nullptr;
  void *context = nullptr;
};

// Never destroyed: its threads end with the process.
static std::atomic<Pool *> pool{nullptr};

extern "C" void run_parts(Work work, void *context, int64_t n_parts, int64_t n_threads) {
  Pool *mine = pool;
  if (mine == nullptr || !mine->is_mine()) {
    Pool *fresh = new Pool;
    if (pool.compare_exchange_strong(mine, fresh))
      mine = fresh;
    else
      delete fresh;
  }
  mine->run(work, context, n_parts, n_threads);
}

// What shows that programs work here: the sum of the squares of the parts.
extern "C" int64_t probe(int64_t n_parts, int64_t n_threads) {
  std::atomic<int64_t> sum{0};
  run_parts([](void *total, int64_t part) { *static_cast<std::atomic<int64_t> *>(total) += part * part; },
            &sum, n_parts, n_threads);
  return sum;
}
