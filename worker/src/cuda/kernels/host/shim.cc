// Runs kernels: fibres, barriers, and what is said when a kernel does what it must not. See shim.h.

#include "common.cuh"

#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <string>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

namespace host {

thread_local Thread *thread;
thread_local BlockContext block_context;
Entry *entries;

namespace {

constexpr size_t PAGE = 4096, STACK = 64 << 10;
constexpr u32 MOST_THREADS = 1024, MOST_SHARED = 228 << 10;

struct Copy {
    void *to;
    const void *from;
    bool here;
    u32 group;
};

struct Fibre : Thread {
    // Where it goes on; on x86-64 a stack pointer is enough.
#ifdef __x86_64__
    void *stack_pointer;
#else
    ucontext_t context;
#endif
    u8 *stack;
    bool done;
    Barrier barrier;
    int line;
    // Meetings of the warp and of the block that it has been at: which of the two rows of slots comes next.
    u32 passed[2];
    std::vector<Copy> copies;
    u32 open_group;
};

// All that one thread of this process needs to run blocks.
struct Executor {
    std::vector<Fibre> fibres;
    u8 *stacks = nullptr;
    u8 *shared_pages = nullptr;
    std::vector<u8> slots;
#ifdef __x86_64__
    void *scheduler;
#else
    ucontext_t scheduler;
#endif
    const Entry *entry;
    void **arguments;
    std::string error;
    // Blocks that ran here.
    u32 blocks = 0;
    sigjmp_buf fault;
    volatile bool running = false;
    std::vector<u8> signal_stack;
};

thread_local Executor *executor;

#ifdef __x86_64__
// Saves the callee's registers on the stack, changes stacks, and takes them back.
extern "C" void longhand_switch(void **from, void *to);
asm(R"(
.text
.hidden longhand_switch
.type longhand_switch, @function
longhand_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size longhand_switch, .-longhand_switch
)");
#endif

void to_scheduler(Fibre &fibre) {
#ifdef __x86_64__
    longhand_switch(&fibre.stack_pointer, executor->scheduler);
#else
    swapcontext(&fibre.context, &executor->scheduler);
#endif
}

void to_fibre(Fibre &fibre) {
    thread = &fibre;
#ifdef __x86_64__
    longhand_switch(&executor->scheduler, fibre.stack_pointer);
#else
    swapcontext(&executor->scheduler, &fibre.context);
#endif
}

Fibre &self() { return *static_cast<Fibre *>(thread); }

void body() {
    executor->entry->call(executor->entry->function, executor->arguments);
    Fibre &fibre = self();
    if (!fibre.copies.empty() && executor->error.empty()) {
        executor->error = "thread " + std::to_string(fibre.index.x) + " ends with copies that it never waited for";
    }
    fibre.done = true;
    to_scheduler(fibre);
    __builtin_unreachable();
}

void begin(Fibre &fibre, u32 at) {
    fibre.index = {at, 0, 0};
    fibre.lane = at % 32;
    fibre.done = false;
    fibre.barrier = Barrier::none;
    fibre.line = 0;
    fibre.passed[0] = fibre.passed[1] = 0;
    fibre.copies.clear();
    fibre.open_group = 0;
#ifdef __x86_64__
    // As if `body` had been called: six registers, the address to return to, and one word that keeps the stack aligned.
    void **top = reinterpret_cast<void **>(fibre.stack + STACK) - 1;
    *--top = reinterpret_cast<void *>(body);
    top -= 6;
    std::memset(top, 0, 6 * sizeof *top);
    fibre.stack_pointer = top;
#else
    getcontext(&fibre.context);
    fibre.context.uc_stack = {fibre.stack, 0, STACK};
    fibre.context.uc_link = nullptr;
    makecontext(&fibre.context, body, 0);
#endif
}

std::string text(const char *format, ...) {
    char buffer[300];
    va_list list;
    va_start(list, format);
    vsnprintf(buffer, sizeof buffer, format, list);
    va_end(list);
    return buffer;
}

// Why the threads from..to cannot go on though all of them wait or have ended; empty if they wait at the same barrier.
std::string apart(u32 from, u32 to) {
    const std::vector<Fibre> &fibres = executor->fibres;
    for (u32 at = from; at < to; at++) {
        const Fibre &first = fibres[from], &other = fibres[at];
        if (first.done && other.done) {
            continue;
        }
        if (first.done != other.done || first.barrier != other.barrier || first.line != other.line) {
            const Fibre &waits = first.done ? other : first, &misses = first.done ? first : other;
            const char *what = waits.barrier == Barrier::block ? "__syncthreads" : "an exchange of its warp";
            std::string where = misses.done ? "has ended" : text("waits at line %d", misses.line);
            return text("divergent barrier: thread %u waits at %s in line %d, and thread %u %s", waits.index.x, what,
                        waits.line, misses.index.x, where.c_str());
        }
    }
    return "";
}

// Runs one block to its end. Every other block runs its warps from the last to the first: what a kernel without the
// barriers that it needs gives depends on the order.
bool run_block(u32 threads, bool backwards) {
    std::vector<Fibre> &fibres = executor->fibres;
    for (u32 at = 0; at < threads; at++) {
        begin(fibres[at], at);
    }
    for (;;) {
        // Each warp goes as far as it can without the others.
        for (u32 warp = 0; warp < threads / 32; warp++) {
            u32 from = (backwards ? threads / 32 - 1 - warp : warp) * 32;
            while (!fibres[from].done && fibres[from].barrier != Barrier::block) {
                for (u32 lane = 0; lane < 32; lane++) {
                    Fibre &fibre = fibres[from + (backwards ? 31 - lane : lane)];
                    if (!fibre.done) {
                        to_fibre(fibre);
                    }
                    if (!executor->error.empty()) {
                        return false;
                    }
                }
                executor->error = apart(from, from + 32);
                if (!executor->error.empty()) {
                    return false;
                }
            }
        }
        executor->error = apart(0, threads);
        if (!executor->error.empty()) {
            return false;
        }
        if (fibres[0].done) {
            return true;
        }
        for (u32 at = 0; at < threads; at++) {
            fibres[at].barrier = Barrier::none;
        }
    }
}

// The last two are what the build makes of an address that its type does not allow, on one processor or another.
constexpr int FAULTS[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP};
struct sigaction before[4];

void on_fault(int signal, siginfo_t *info, void *context) {
    Executor *here = executor;
    if (here && here->running) {
        const char *doing = "touches";
#ifdef __x86_64__
        doing = static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_ERR] & 2 ? "writes" : "reads";
#endif
        char what[100];
        snprintf(what, sizeof what, "%s address %p, which is outside of every buffer", doing, info->si_addr);
        const Fibre &fibre = self();
        snprintf(reinterpret_cast<char *>(here->slots.data()), 300, "thread %u of block (%u, %u, %u) %s", fibre.index.x,
                 block_context.block.x, block_context.block.y, block_context.block.z,
                 signal == SIGILL || signal == SIGTRAP ? "uses an address that is no multiple of what it reads or writes" : what);
        siglongjmp(here->fault, 1);
    }
    u32 which = 0;
    while (FAULTS[which] != signal) {
        which++;
    }
    struct sigaction &old = before[which];
    if (old.sa_flags & SA_SIGINFO && old.sa_sigaction) {
        old.sa_sigaction(signal, info, context);
    } else {
        ::signal(signal, SIG_DFL);
    }
}

u8 *pages(size_t bytes) {
    void *map = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return map == MAP_FAILED ? nullptr : static_cast<u8 *>(map);
}

// Made once for each thread of the process that runs kernels, and never given back: tests have few threads.
bool make_executor() {
    static bool handling = [] {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        bool well = true;
        for (u32 i = 0; i < 4; i++) {
            well = well && sigaction(FAULTS[i], &action, &before[i]) == 0;
        }
        return well;
    }();
    Executor *made = new Executor;
    made->fibres.resize(MOST_THREADS);
    made->stacks = pages(MOST_THREADS * (STACK + PAGE));
    made->shared_pages = pages(MOST_SHARED + 2 * PAGE);
    made->slots.resize(4 * MOST_THREADS * SLOT);
    made->signal_stack.resize(64 << 10);
    if (!handling || !made->stacks || !made->shared_pages) {
        return false;
    }
    bool closed = mprotect(made->shared_pages, PAGE, PROT_NONE) == 0 &&
                  mprotect(made->shared_pages + PAGE + MOST_SHARED, PAGE, PROT_NONE) == 0;
    for (u32 at = 0; at < MOST_THREADS; at++) {
        u8 *stack = made->stacks + at * (STACK + PAGE);
        closed = closed && mprotect(stack, PAGE, PROT_NONE) == 0;
        made->fibres[at].stack = stack + PAGE;
    }
    stack_t current = {};
    if (sigaltstack(nullptr, &current) == 0 && current.ss_flags & SS_DISABLE) {
        stack_t mine = {};
        mine.ss_sp = made->signal_stack.data();
        mine.ss_size = made->signal_stack.size();
        closed = closed && sigaltstack(&mine, nullptr) == 0;
    }
    executor = made;
    return closed;
}

std::string run(const char *name, const u32 *grid, const u32 *block, u32 shared, void **arguments, int count) {
    const Entry *entry = entries;
    while (entry && std::strcmp(entry->name, name) != 0) {
        entry = entry->next;
    }
    if (!entry) {
        return "there is no such kernel";
    }
    if (!executor && !make_executor()) {
        return "there is no memory for the threads of a block";
    }
    u32 threads = block[0];
    if (threads == 0 || threads % 32 != 0 || block[1] != 1 || block[2] != 1) {
        return text("blocks are rows of whole warps, not %u x %u x %u threads", block[0], block[1], block[2]);
    }
    if (threads > entry->threads) {
        return text("blocks of %u threads are more than the %u of its launch bounds", threads, entry->threads);
    }
    if ((u32)count != entry->arguments) {
        return text("it has %u parameters, and %d arguments were given", entry->arguments, count);
    }
    if (shared > MOST_SHARED || grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[1] > 65535 || grid[2] > 65535) {
        return text("a GPU does not take %u bytes of shared memory or a grid of %u x %u x %u", shared, grid[0], grid[1], grid[2]);
    }
    executor->entry = entry;
    executor->arguments = arguments;
    executor->error.clear();
    block_context.block_size = {threads, 1, 1};
    block_context.grid = {grid[0], grid[1], grid[2]};
    // Ends where the closed page begins.
    u32 room = (shared + 15) / 16 * 16;
    block_context.shared = executor->shared_pages + PAGE + MOST_SHARED - room;
    executor->running = true;
    if (sigsetjmp(executor->fault, 1) != 0) {
        executor->running = false;
        return reinterpret_cast<const char *>(executor->slots.data());
    }
    bool well = true;
    for (u32 z = 0; z < grid[2] && well; z++) {
        for (u32 y = 0; y < grid[1] && well; y++) {
            for (u32 x = 0; x < grid[0] && well; x++) {
                block_context.block = {x, y, z};
                // All ones: NaN in every type of floating-point number.
                std::memset(block_context.shared, 0xff, room);
                well = run_block(threads, executor->blocks++ % 2 == 1);
            }
        }
    }
    executor->running = false;
    return executor->error;
}

}  // namespace

const u8 *arrive_and_wait(Barrier barrier, int line, const void *mine, u32 bytes) {
    Fibre &fibre = self();
    // Two rows for each kind: whoever writes the third time has passed all who read the first.
    u32 kind = barrier == Barrier::block ? 1 : 0;
    u8 *row = executor->slots.data() + (kind * 2 + fibre.passed[kind]++ % 2) * MOST_THREADS * SLOT;
    if (bytes) {
        std::memcpy(row + fibre.index.x * SLOT, mine, bytes);
    }
    fibre.barrier = barrier;
    fibre.line = line;
    to_scheduler(fibre);
    fibre.barrier = Barrier::none;
    return kind ? row : row + fibre.index.x / 32 * 32 * SLOT;
}

void copy_later(void *to, const void *from, bool here) {
    self().copies.push_back({to, from, here, self().open_group});
}

void copy_close() { self().open_group++; }

void copy_finish(u32 groups) {
    Fibre &fibre = self();
    size_t kept = 0;
    for (const Copy &copy : fibre.copies) {
        if (copy.group + groups >= fibre.open_group) {
            fibre.copies[kept++] = copy;
        } else if (copy.here) {
            std::memcpy(copy.to, copy.from, 16);
        } else {
            std::memset(copy.to, 0, 16);
        }
    }
    fibre.copies.resize(kept);
}

}  // namespace host

// Runs a kernel over its whole grid. Gives null, or what went wrong: a text that stays until the thread's next call.
extern "C" const char *longhand_run_kernel(const char *name, const u32 *grid, const u32 *block, u32 shared, void **arguments, int count) {
    static thread_local std::string error;
    error = host::run(name, grid, block, shared, arguments, count);
    return error.empty() ? nullptr : error.c_str();
}
