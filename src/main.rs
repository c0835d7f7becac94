//! The `mainstay` binary.

fn main() -> std::process::ExitCode {
    mainstay::cli::main()
}
