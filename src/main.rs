//! The binary `tongtu`: control service and its command line.

/// glibc's arenas grow for ever under many threads; mimalloc gives memory back, but not by halves of
/// huge pages: it is built without them (`no_thp`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tongtu::cli::main()
}
