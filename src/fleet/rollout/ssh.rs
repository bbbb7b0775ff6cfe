//! A connection to one machine: its host key is verified before anything is sent, then a login, then commands.
//!
//! Everything goes through commands (`exec`), the upload as well: that works as root by `sudo`, which a transfer of
//! files of the login's own (SFTP) does not, and on machines that offer none.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::ssh_key::{Algorithm, HashAlg};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, Disconnect, Preferred};
use tokio::net::TcpStream;

use super::credential::{Credential, Secret};
use super::fault::{Fault, said};
use super::host_key::{HostKey, verdict};
use super::layout::Rights;

/// A machine answers within this or not at all.
const CONNECT: Duration = Duration::from_secs(20);
/// A connection over which nothing comes back, though it was asked for, is lost after three times this; one that takes
/// nothing either, after four times this.
const ALIVE: Duration = Duration::from_secs(10);
/// A goodbye that a machine does not take is none.
const GOODBYE: Duration = Duration::from_secs(5);
/// What is kept of what a command prints.
const PRINTED: usize = 64 << 10;

/// A machine that was let in, and how it is that one is root there.
pub(super) struct Connection {
    handle: Handle<Verifier>,
    rights: Rights,
    sudo: Option<Secret>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("rights", &self.rights).finish_non_exhaustive()
    }
}

/// What a command came to.
#[derive(Debug)]
pub(super) struct Printed {
    /// None: it was ended by a signal.
    pub(super) status: Option<u32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Printed {
    /// What it printed, if it succeeded.
    pub(super) fn ok(self) -> Result<String, Fault> {
        if self.status == Some(0) {
            return Ok(self.out);
        }
        Err(self.fault())
    }

    /// Why it did not.
    pub(super) fn fault(&self) -> Fault {
        Fault::Command {
            status: self.status.map_or_else(|| "signal".to_owned(), |status| status.to_string()),
            said: said(if self.err.trim().is_empty() { &self.out } else { &self.err }),
        }
    }
}

/// Compares the host key, and notes the one that was shown.
struct Verifier {
    known: Option<HostKey>,
    offered: Arc<Mutex<Option<HostKey>>>,
}

impl client::Handler for Verifier {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        // No certificate is asked for.
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let offered = HostKey {
            algorithm: key.algorithm().to_string(),
            text: key.to_openssh().unwrap_or_default(),
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        };
        let is_known = verdict(self.known.as_ref(), &offered).is_ok();
        *self.offered.lock().unwrap_or_else(PoisonError::into_inner) = Some(offered);
        Ok(is_known)
    }
}

/// Of a machine with several keys the known one is asked for first, so that it is shown again.
fn preferred(known: Option<&HostKey>) -> Preferred {
    let mut preferred = Preferred::default();
    let Some(known) = known else { return preferred };
    let is_known = |algorithm: &Algorithm| match algorithm {
        Algorithm::Rsa { .. } => known.algorithm == "ssh-rsa",
        other => other.as_str() == known.algorithm,
    };
    let mut keys: Vec<Algorithm> = preferred.key.to_vec();
    keys.sort_by_key(|algorithm| !is_known(algorithm));
    preferred.key = Cow::Owned(keys);
    preferred
}

/// Connects and verifies. The key that was offered is told whatever comes of it.
async fn greet(
    (address, port): (&str, u16),
    known: Option<&HostKey>,
    offered: &Arc<Mutex<Option<HostKey>>>,
) -> Result<Handle<Verifier>, Fault> {
    let unreachable = |error: &dyn std::fmt::Display| Fault::Unreachable { said: said(&error.to_string()) };
    let connecting = tokio::time::timeout(CONNECT, TcpStream::connect((address, port)));
    let stream = connecting.await.map_err(|elapsed| unreachable(&elapsed))?.map_err(|error| unreachable(&error))?;
    let _ = stream.set_nodelay(true);
    let config = client::Config {
        inactivity_timeout: Some(ALIVE * 4),
        keepalive_interval: Some(ALIVE),
        keepalive_max: 3,
        preferred: preferred(known),
        ..client::Config::default()
    };
    let verifier = Verifier { known: known.cloned(), offered: Arc::clone(offered) };
    let greeting = client::connect_stream(Arc::new(config), stream, verifier);
    let greeted = tokio::time::timeout(CONNECT, greeting).await.map_err(|elapsed| unreachable(&elapsed))?;
    match greeted {
        Ok(handle) => Ok(handle),
        Err(error) => {
            let offered = offered.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(offered) = &*offered {
                verdict(known, offered)?;
            }
            Err(unreachable(&error))
        }
    }
}

/// Connects, verifies, logs in, and finds out how to be root. Tells the key that the machine offered as well.
pub(super) async fn connect(
    place: (&str, u16),
    user: &str,
    credential: &Credential,
    known: Option<&HostKey>,
) -> (Option<HostKey>, Result<Connection, Fault>) {
    let offered = Arc::default();
    let opened = async {
        let mut handle = greet(place, known, &offered).await?;
        login(&mut handle, user, credential).await?;
        let (rights, sudo) = rights(&handle, user, credential).await?;
        Ok(Connection { handle, rights, sudo })
    };
    let opened = opened.await;
    let offered = offered.lock().unwrap_or_else(PoisonError::into_inner).take();
    (offered, opened)
}

/// With the key, then with the password, as one that is asked for or not.
async fn login(handle: &mut Handle<Verifier>, user: &str, credential: &Credential) -> Result<(), Fault> {
    let lost = |_: russh::Error| Fault::ConnectionLost;
    if let Some(key) = credential.key()? {
        let hash = handle.best_supported_rsa_hash().await.map_err(lost)?.flatten();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        if handle.authenticate_publickey(user, key).await.map_err(lost)?.success() {
            return Ok(());
        }
    }
    let Some(password) = &credential.password else { return Err(Fault::LoginRefused { user: user.to_owned() }) };
    if let AuthResult::Success = handle.authenticate_password(user, password.text()).await.map_err(lost)? {
        return Ok(());
    }
    let mut asked = handle.authenticate_keyboard_interactive_start(user, None::<String>).await.map_err(lost)?;
    for _ in 0..3 {
        let KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } = asked else { break };
        let answers = prompts.iter().map(|_| password.text().to_owned()).collect();
        asked = handle.authenticate_keyboard_interactive_respond(answers).await.map_err(lost)?;
    }
    match asked {
        KeyboardInteractiveAuthResponse::Success => Ok(()),
        _ => Err(Fault::LoginRefused { user: user.to_owned() }),
    }
}

/// How one becomes root.
async fn rights(
    handle: &Handle<Verifier>,
    user: &str,
    credential: &Credential,
) -> Result<(Rights, Option<Secret>), Fault> {
    let no_root = |said: String| Fault::NoRoot { user: user.to_owned(), said };
    let printed = carry_out(handle, super::layout::RIGHTS, &[]).await?.ok()?;
    let mut lines = printed.lines();
    if lines.next() == Some("0") {
        return Ok((Rights::Root, None));
    }
    match lines.next() {
        Some("free") => Ok((Rights::Sudo, None)),
        Some("asks") => {
            let Some(secret) = credential.for_sudo() else {
                return Err(no_root("sudo wants a password, and none was given".to_owned()));
            };
            let line = Rights::SudoPassword.line("id -u");
            let tried = carry_out(handle, &line, &[format!("{}\n", secret.text()).as_bytes()]).await?;
            if tried.status == Some(0) && tried.out.trim() == "0" {
                return Ok((Rights::SudoPassword, Some(secret.clone())));
            }
            Err(no_root(credential.without(&said(&tried.err))))
        }
        _ => Err(no_root("it is not root, and there is no sudo".to_owned())),
    }
}

impl Connection {
    /// Runs a script as root, with what comes by its standard input.
    pub(super) async fn run(&self, script: &str, input: &[u8]) -> Result<Printed, Fault> {
        let line = self.rights.line(script);
        match &self.sudo {
            Some(secret) => {
                let first = zeroize::Zeroizing::new(format!("{}\n", secret.text()));
                carry_out(&self.handle, &line, &[first.as_bytes(), input]).await
            }
            None => carry_out(&self.handle, &line, &[input]).await,
        }
    }

    /// Says goodbye.
    pub(super) async fn close(self) {
        let _ = tokio::time::timeout(GOODBYE, self.handle.disconnect(Disconnect::ByApplication, "", "en")).await;
    }
}

async fn carry_out(handle: &Handle<Verifier>, line: &str, input: &[&[u8]]) -> Result<Printed, Fault> {
    let lost = |_: russh::Error| Fault::ConnectionLost;
    let channel = handle.channel_open_session().await.map_err(lost)?;
    channel.exec(true, line).await.map_err(lost)?;
    let (mut reading, writing) = channel.split();
    let mut printed = Printed { status: None, out: String::new(), err: String::new() };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut has_ended = false;
    let write = async {
        for part in input {
            writing.data(*part).await?;
        }
        writing.eof().await
    };
    tokio::pin!(write);
    let mut is_writing = true;
    loop {
        tokio::select! {
            // A command that ends early takes no more: what it printed says why.
            _ = &mut write, if is_writing => is_writing = false,
            told = reading.wait() => match told {
                Some(ChannelMsg::Data { data }) => keep(&mut out, &data),
                Some(ChannelMsg::ExtendedData { data, .. }) => keep(&mut err, &data),
                Some(ChannelMsg::ExitStatus { exit_status }) => (has_ended, printed.status) = (true, Some(exit_status)),
                Some(ChannelMsg::ExitSignal { .. }) => has_ended = true,
                Some(ChannelMsg::Close) | None => break,
                Some(_) => {}
            },
        }
    }
    if !has_ended {
        return Err(Fault::ConnectionLost);
    }
    printed.out = String::from_utf8_lossy(&out).into_owned();
    printed.err = String::from_utf8_lossy(&err).into_owned();
    Ok(printed)
}

fn keep(printed: &mut Vec<u8>, more: &[u8]) {
    let room = PRINTED - printed.len().min(PRINTED);
    printed.extend_from_slice(&more[..more.len().min(room)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_asked_for_the_key_that_is_known() {
        let known = |algorithm: &str| HostKey {
            algorithm: algorithm.to_owned(),
            text: String::new(),
            fingerprint: String::new(),
        };
        let first =
            |known: Option<&HostKey>| preferred(known).key.first().map(|algorithm| algorithm.as_str().to_owned());
        assert_eq!(first(Some(&known("ecdsa-sha2-nistp256"))).as_deref(), Some("ecdsa-sha2-nistp256"));
        let rsa = preferred(Some(&known("ssh-rsa")));
        assert!(matches!(rsa.key.first(), Some(Algorithm::Rsa { .. })), "{:?}", rsa.key);
        assert_eq!(first(None), Preferred::default().key.first().map(|algorithm| algorithm.as_str().to_owned()));
    }
}
