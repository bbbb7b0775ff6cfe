//! The binary `tongtu`: control service and its command line.

/// glibc's arenas grow for ever under many threads; mimalloc gives memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tongtu::cli::main()
}
