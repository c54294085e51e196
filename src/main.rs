//! Arguments in, exit code out. Everything else is the library's.

// What a message needs is allocated on one thread and let go on another, all the time: under load that was a seventh of the node's time
// in the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    hubbub::cli::main()
}
