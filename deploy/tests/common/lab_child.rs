//! What the lab's tests start: a site inside a namespace, a process that looks at its `/run`, and whole labs
//! in processes of their own.

use std::error::Error;
use std::io::Write;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;
use std::{env, fs, io, thread};
use stead_deploy::lab::process::Process;
use stead_deploy::lab::sample_site::{SampleSite, serve};
use stead_deploy::lab::user_namespace::enter_if_needed;
use stead_deploy::lab::{Lab, Place, Shape};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", port, name, hang_while] => {
            let site =
                SampleSite { port: port.parse()?, name: name.parse()?, hang_while: Some(hang_while.into()) };
            match serve(&site)? {}
        }
        ["look-at-run"] => look_at_run(),
        ["hold", directory] => hold(Path::new(directory)),
        ["stand-alone"] => stand_alone(),
        _ => Err(format!("unknown words {words:?}").into()),
    }
}

/// Tells what is in `/run`, then leaves something there.
fn look_at_run() -> Result<(), Box<dyn Error>> {
    println!("entries: {}", fs::read_dir("/run")?.count());
    fs::write("/run/left-by-lab-child", "")?;
    Ok(())
}

/// A lab with two sites that says who they are, and stays until it is killed.
fn hold(directory: &Path) -> Result<(), Box<dyn Error>> {
    let lab = Lab::start(Shape::of(2))?;
    let program = env::current_exe()?;
    let program = program.to_str().ok_or("a path that is not text")?;
    let mut sites = Vec::new();
    for node in 0..2 {
        let argv = [program, "serve", "80", "web", "/nonexistent"];
        let log = directory.join(format!("site-{node}.log"));
        sites.push(Process::start(lab.namespace(Place::Node(node))?, &argv, &[], &log)?);
    }
    let pids: Vec<String> = sites.iter().map(|site| site.pid().to_string()).collect();
    println!("{}", pids.join(" "));
    io::stdout().flush()?;
    loop {
        thread::park();
    }
}

/// Everything that needs privilege, once, by whoever runs this.
fn stand_alone() -> Result<(), Box<dyn Error>> {
    let privilege = enter_if_needed()?;
    let mut lab = Lab::start(Shape::of(2))?;
    let (a, b) = (Place::Node(0), Place::Node(1));
    let to = (lab.ip4(b), 7_000);
    let receiver = lab.namespace(b)?.run(|| UdpSocket::bind(to))??;
    receiver.set_read_timeout(Some(Duration::from_millis(300)))?;
    let sender = lab.namespace(a)?.run(|| UdpSocket::bind((lab.ip4(a), 0)))??;
    let arrives = || -> io::Result<bool> {
        sender.send_to(b"x", to)?;
        Ok(receiver.recv(&mut [0; 1]).is_ok())
    };
    let before = arrives()?;
    lab.cut(a, b)?;
    let during = arrives()?;
    lab.heal(a, b)?;
    let after = arrives()?;
    println!("{privilege:?} before {before} during {during} after {after}");
    Ok(())
}
