//! Images that we make ourselves: the sandbox's, carried in this binary.

use serde_json::json;
use sha2::{Digest, Sha256};

/// The name under which the sandbox image is loaded. Its last part changes when its content does.
pub const SANDBOX: &str = "mainstay.io/sandbox:1";

/// A file of an image.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// Relative to the root, `bin/app`.
    pub path: &'a str,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub bytes: &'a [u8],
}

/// Returns the sandbox image for this machine as a docker-archive; its id is the same on every
/// node.
pub fn sandbox() -> std::io::Result<Vec<u8>> {
    let elf = if cfg!(target_arch = "aarch64") {
        elf(183, &pause_aarch64())
    } else {
        elf(62, &pause_x86_64())
    };
    let file = File { path: "pause", mode: 0o755, bytes: &elf };
    archive(SANDBOX, &[file], &["/pause"])
}

/// Writes a one-layer image in Docker's archive form (`docker load`). All times are 1970, so the
/// same content gives the same image id everywhere.
pub fn archive(name: &str, files: &[File<'_>], entrypoint: &[&str]) -> std::io::Result<Vec<u8>> {
    let layer = tar(files)?;
    let diff = format!("sha256:{}", hex(&Sha256::digest(&layer)));
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"Entrypoint": entrypoint},
        "rootfs": {"type": "layers", "diff_ids": [diff]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "mainstay"}],
    })
    .to_string();
    let config_name = format!("{}.json", hex(&Sha256::digest(config.as_bytes())));
    let manifest = json!([{
        "Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"],
    }])
    .to_string();
    tar(&[
        File { path: &config_name, mode: 0o644, bytes: config.as_bytes() },
        File { path: "layer.tar", mode: 0o644, bytes: &layer },
        File { path: "manifest.json", mode: 0o644, bytes: manifest.as_bytes() },
    ])
}

fn tar(files: &[File<'_>]) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.bytes.len() as u64);
        header.set_mode(file.mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, file.path, file.bytes)?;
    }
    builder.into_inner()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `struct sigaction` with `SIG_IGN` as its handler and nothing else.
fn ignore() -> [u8; 32] {
    let mut action = [0; 32];
    action[0] = 1;
    action
}

/// `rt_sigaction(SIGCHLD, SIG_IGN)`, so that the kernel reaps the children that a shared process
/// namespace gives to process 1; then `pause()` for ever.
fn pause_x86_64() -> Vec<u8> {
    let mut code = vec![
        0xb8, 13, 0, 0, 0, // mov eax, rt_sigaction
        0xbf, 17, 0, 0, 0, // mov edi, SIGCHLD
        0x48, 0x8d, 0x35, 23, 0, 0, 0, // lea rsi, [rip + 23]: the action, at offset 40
        0x31, 0xd2, // xor edx, edx
        0x41, 0xba, 8, 0, 0, 0, // mov r10d, 8
        0x0f, 0x05, // syscall
        0xb8, 34, 0, 0, 0, // again: mov eax, pause
        0x0f, 0x05, // syscall
        0xeb, 0xf7, // jmp again
    ];
    code.resize(40, 0);
    code.extend(ignore());
    code
}

/// The same for 64-bit ARM, which has no `pause`: `ppoll` of nothing waits as long.
fn pause_aarch64() -> Vec<u8> {
    const SVC: u32 = 0xd400_0001;
    let mov = |register: u32, value: u32| 0xd280_0000 | (value << 5) | register;
    // adr x1, the action: it stands 14 instructions from the start, 12 from here.
    let adr = 0x1000_0000 | (12 << 5) | 1;
    // b, 6 instructions back.
    let back = 0x1400_0000 | (0x03ff_ffff & (-6i32).cast_unsigned());
    let code = [
        mov(8, 134),
        mov(0, 17),
        adr,
        mov(2, 0),
        mov(3, 8),
        SVC,
        mov(8, 73),
        mov(0, 0),
        mov(1, 0),
        mov(2, 0),
        mov(3, 0),
        SVC,
        back,
        0,
    ];
    let mut bytes: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(ignore());
    bytes
}

/// A static ELF executable of one segment that holds the headers and the code.
fn elf(machine: u16, code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend(2u16.to_le_bytes()); // an executable
    out.extend(machine.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend((BASE + HEADERS).to_le_bytes()); // where it begins
    out.extend(64u64.to_le_bytes()); // program headers
    out.extend(0u64.to_le_bytes()); // no section headers
    out.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    out.extend(1u32.to_le_bytes()); // to be loaded
    out.extend(5u32.to_le_bytes()); // readable, executable
    for word in [0, BASE, BASE, size, size, 0x1_0000] {
        out.extend(word.to_le_bytes());
    }
    out.extend(code);
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn the_sandbox_program_runs_until_it_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        let elf = if cfg!(target_arch = "aarch64") {
            elf(183, &pause_aarch64())
        } else {
            elf(62, &pause_x86_64())
        };
        std::fs::write(&path, elf).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        // It has begun to wait once the kernel says that it sleeps in a system call.
        let stat = format!("/proc/{}/status", child.id());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let ignores_children = |text: &str| {
            let mask = text.lines().find_map(|l| l.strip_prefix("SigIgn:\t")).unwrap_or("0");
            u64::from_str_radix(mask, 16).unwrap() & (1 << 16) != 0
        };
        while !ignores_children(&std::fs::read_to_string(&stat).unwrap()) {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            assert!(std::time::Instant::now() < deadline, "it never ignored SIGCHLD");
            std::thread::yield_now();
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        assert_eq!(sandbox().unwrap(), sandbox().unwrap());
        assert!(sandbox().unwrap().len() < 16 << 10);
    }
}
