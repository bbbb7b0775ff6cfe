//! One peer's connection: HTTP/2 and the sessions on it, driven by one task.
//!
//! A server of HTTP in general gives each stream a task of its own. A frame then wakes the connection's task and the
//! stream's on its way in, and both again with its answer; and since none of ten thousand connections lies in the
//! processor's caches, to be woken is most of what a frame costs. Here HTTP/2, the sessions and the timers are parts
//! of one task, and a part is looked at only when it was woken itself.
//!
//! What must hold: no wake-up is lost; a connection that is busy lets others have their turn, and what its peer sends
//! without a pause holds up neither sessions nor timers; a peer that does not take its answers is not read either, and
//! not waited for for long.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::task::AtomicWaker;
use futures_util::{FutureExt, Stream};
use h2::server::SendResponse;
use h2::{Ping, PingPong, RecvStream, SendStream};
use hyper::body::{Body, Frame};
use hyper::{HeaderMap, Request, Response};
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::{Code, Status};

use super::session::Session;

/// Streams of a connection: a session, a renewal, and one of each that is just ending.
pub(super) const STREAMS: u32 = 4;
/// Looks at the parts before other tasks of this thread have their turn.
const ROUNDS: u32 = 16;
/// Bytes of answers that may wait for their peer before it is read no more.
const ROOM: usize = 16 << 10;
/// Room is asked for anew below this; what is larger waits beyond it.
const LITTLE: usize = 4 << 10;

// The parts, as bits of what was woken.
const HTTP: u8 = 1;
const SESSIONS: u8 = 2;
const LOOKS: u8 = 4;
const PARTS: u8 = HTTP | SESSIONS | LOOKS;
/// The task is at work: it looks once more before it rests, and need not be woken.
const AT_WORK: u8 = 8;

/// HTTP/2 over TLS over TCP.
pub(super) type Http = h2::server::Connection<TlsStream<TcpStream>, Bytes>;

/// See the module. Ends when the connection is closed or `looks` has come to an end.
pub(super) struct Connection<F, L> {
    http: Http,
    /// Begins a call: the session, if it is one.
    begin: F,
    sessions: Vec<Exchange>,
    /// No more calls begin.
    ends: bool,
    looks: Option<BoxFuture<'static, L>>,
    shared: Arc<Shared>,
    wakers: [Waker; 3],
}

/// Why a connection needs no more of its task.
#[derive(Debug)]
pub(super) enum Ended<L> {
    Closed,
    Looks(L),
}

#[derive(Debug)]
struct Shared {
    /// Parts, and [`AT_WORK`].
    woken: AtomicU8,
    task: AtomicWaker,
    /// Something came since this was last asked.
    heard: AtomicBool,
}

impl Shared {
    /// Every part is to be looked at.
    fn new() -> Arc<Self> {
        let (woken, task) = (AtomicU8::new(PARTS), AtomicWaker::new());
        Arc::new(Self { woken, task, heard: AtomicBool::new(false) })
    }

    /// One for each part.
    fn wakers(self: &Arc<Self>) -> [Waker; 3] {
        [HTTP, SESSIONS, LOOKS].map(|part| Waker::from(Arc::new(Part(Arc::clone(self), part))))
    }

    fn wake(&self, part: u8) {
        // Who finds it woken already need not wake it.
        if self.woken.fetch_or(part, Ordering::AcqRel) & (part | AT_WORK) == 0 {
            self.task.wake();
        }
    }

    /// Looks at what was woken, until nothing is any more, others are to have their turn, or a look is ready.
    fn rounds<T>(&self, cx: &mut Context<'_>, mut look: impl FnMut(u8) -> Poll<T>) -> Poll<T> {
        self.task.register(cx.waker());
        for _ in 0..ROUNDS {
            match self.woken.swap(AT_WORK, Ordering::AcqRel) & PARTS {
                0 => {
                    let rests = self.woken.compare_exchange(AT_WORK, 0, Ordering::AcqRel, Ordering::Acquire);
                    if rests.is_ok() {
                        return Poll::Pending;
                    }
                }
                woken => {
                    if let Poll::Ready(end) = look(woken) {
                        self.woken.fetch_and(!AT_WORK, Ordering::AcqRel);
                        return Poll::Ready(end);
                    }
                }
            }
        }
        self.woken.fetch_and(!AT_WORK, Ordering::AcqRel);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Wakes one part.
#[derive(Debug)]
struct Part(Arc<Shared>, u8);

impl Wake for Part {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake(self.1);
    }
}

/// What is known of a connection without looking at it.
#[derive(Debug, Clone)]
pub(super) struct Pulse(Arc<Shared>);

impl Pulse {
    /// Ends when a peer that is silent does not answer within `patience`: `silence` and `patience` after the last that
    /// came, at the latest.
    pub(super) async fn stops(self, mut ping: PingPong, silence: Duration, patience: Duration) {
        loop {
            // What came just after one look hides the silence from the next.
            tokio::time::sleep(silence / 2).await;
            let heard = self.0.heard.swap(false, Ordering::Relaxed);
            if !heard && !matches!(tokio::time::timeout(patience, ping.ping(Ping::opaque())).await, Ok(Ok(_))) {
                return;
            }
        }
    }
}

impl<F, L> Connection<F, L>
where
    F: FnMut(Request<Received>, SendResponse<Bytes>) -> Option<Exchange>,
{
    pub(super) fn new(http: Http, begin: F) -> Self {
        let shared = Shared::new();
        let wakers = shared.wakers();
        Self { http, begin, sessions: Vec::new(), ends: false, looks: None, shared, wakers }
    }

    /// What `looks` may look at.
    pub(super) fn pulse(&self) -> Pulse {
        Pulse(Arc::clone(&self.shared))
    }

    /// Goes on until `looks` ends, at the longest.
    pub(super) fn until(&mut self, looks: impl Future<Output = L> + Send + 'static) {
        // As much as comes, timers run out.
        self.looks = Some(tokio::task::coop::unconstrained(looks).boxed());
        self.shared.woken.fetch_or(LOOKS, Ordering::AcqRel);
    }

    /// No more calls begin, and it is closed when the last has ended.
    pub(super) fn shut_down(&mut self) {
        self.http.graceful_shutdown();
        self.ends = true;
        self.shared.woken.fetch_or(HTTP, Ordering::AcqRel);
    }

    fn look(&mut self, woken: u8) -> Poll<Ended<L>> {
        // Before HTTP/2, which takes all that tokio grants a task at a time when its peer sends without a pause.
        if woken & SESSIONS != 0 {
            self.look_at_sessions();
        }
        if woken & HTTP != 0 && self.look_at_http().is_ready() {
            // What came with the end is taken, as far as a session reads at a time.
            self.look_at_sessions();
            return Poll::Ready(Ended::Closed);
        }
        // The last: when it is ready nothing that was woken is left unseen.
        if woken & LOOKS != 0
            && let Some(future) = &mut self.looks
            && let Poll::Ready(end) = future.as_mut().poll(&mut Context::from_waker(&self.wakers[2]))
        {
            self.looks = None;
            return Poll::Ready(Ended::Looks(end));
        }
        Poll::Pending
    }

    /// Ready when the connection is closed.
    fn look_at_http(&mut self) -> Poll<()> {
        while let Poll::Ready(accepted) = self.http.poll_accept(&mut Context::from_waker(&self.wakers[0])) {
            let Some(Ok((request, mut respond))) = accepted else { return Poll::Ready(()) };
            if self.ends {
                // It came before its peer knew; it may be made again elsewhere.
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                continue;
            }
            let request = request.map(|body| Received(body, Arc::clone(&self.shared)));
            if let Some(begun) = (self.begin)(request, respond) {
                // HTTP/2 counts those no more that were reset; they go when they are looked at.
                if self.sessions.len() >= STREAMS as usize {
                    self.look_at_sessions();
                }
                // Of ten thousand connections nearly all have one.
                self.sessions.reserve_exact(1);
                self.sessions.push(begun);
                self.shared.woken.fetch_or(SESSIONS, Ordering::AcqRel);
            }
        }
        Poll::Pending
    }

    fn look_at_sessions(&mut self) {
        let mut cx = Context::from_waker(&self.wakers[1]);
        self.sessions.retain_mut(|session| session.poll(&mut cx).is_pending());
        if self.sessions.is_empty() {
            // The room that many took is not kept.
            self.sessions = Vec::new();
        }
    }
}

impl<F, L> Future for Connection<F, L>
where
    F: FnMut(Request<Received>, SendResponse<Bytes>) -> Option<Exchange> + Unpin,
{
    type Output = Ended<L>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = Arc::clone(&self.shared);
        shared.rounds(cx, |woken| self.look(woken))
    }
}

/// What comes on a stream.
pub(super) struct Received(RecvStream, Arc<Shared>);

impl Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Self(stream, shared) = &mut *self;
        if let Some(data) = ready!(stream.poll_data(cx)) {
            return Poll::Ready(Some(data.and_then(|data| {
                shared.heard.store(true, Ordering::Relaxed);
                stream.flow_control().release_capacity(data.len())?;
                Ok(Frame::data(data))
            })));
        }
        stream.poll_trailers(cx).map(|trailers| trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }
}

/// A session and where its messages go.
pub(super) struct Exchange {
    session: Session,
    out: SendStream<Bytes>,
    /// A message that has not gone out. The session gives no other meanwhile, nor does it read or see to its timer.
    waiting: Option<Bytes>,
    /// How long that may last, and until when it may if it does.
    patience: Duration,
    until: Option<Pin<Box<Sleep>>>,
}

impl Exchange {
    /// Answers the call with a session, whose peer has `patience` to make room for a message. `None`: it has gone.
    pub(super) fn begin(session: Session, mut respond: SendResponse<Bytes>, patience: Duration) -> Option<Self> {
        let mut response = Response::new(());
        let kind = hyper::header::HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
        let out = respond.send_response(response, false).ok()?;
        Some(Self { session, out, waiting: None, patience, until: None })
    }

    /// Ready when it has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(message) = self.waiting.take() {
                let Poll::Ready(is_there) = self.poll_room(cx) else {
                    self.waiting = Some(message);
                    ready!(self.poll_patience(cx));
                    self.session.give_up();
                    // What was sent before it may wait for room as well: nothing else reaches the peer.
                    self.out.send_reset(h2::Reason::CANCEL);
                    return Poll::Ready(());
                };
                self.until = None;
                if !is_there || self.out.send_data(message, false).is_err() {
                    return Poll::Ready(());
                }
            }
            let said = match Pin::new(&mut self.session).poll_next(cx) {
                // Each question costs a lock of HTTP/2's: who reads hears of a reset from what it reads.
                Poll::Pending if self.session.is_deaf() && self.out.poll_reset(cx).is_ready() => {
                    return Poll::Ready(());
                }
                said => ready!(said),
            };
            let status = match said {
                Some(Ok(message)) => {
                    self.waiting = Some(framed(&message));
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::new(Code::Ok, ""),
            };
            let mut trailers = HeaderMap::new();
            if status.add_header(&mut trailers).is_ok() {
                // Whether somebody still reads it is the peer's affair.
                let _ = self.out.send_trailers(trailers);
            }
            return Poll::Ready(());
        }
    }

    /// Ready when something may be sent: whether the peer is still there for it.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut room = self.out.capacity();
        if room < LITTLE {
            self.out.reserve_capacity(ROOM);
            room = self.out.capacity();
        }
        while room == 0 {
            let Some(Ok(more)) = ready!(self.out.poll_capacity(cx)) else { return Poll::Ready(false) };
            room = more;
        }
        Poll::Ready(true)
    }

    /// Ready when the message has waited for long enough.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience))).as_mut().poll(cx)
    }
}

/// A message behind gRPC's head: a flag and the length.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(5 + length);
    framed.put_u8(0);
    framed.put_u32(length as u32);
    message.encode(&mut framed).expect("there is room");
    framed.freeze()
}

/// Answers a call that is no session.
pub(super) async fn answer(response: Response<tonic::body::Body>, mut respond: SendResponse<Bytes>) {
    let (head, mut body) = response.into_parts();
    let head = Response::from_parts(head, ());
    // An error of sending: the peer has gone.
    let Ok(mut out) = respond.send_response(head, body.is_end_stream()) else { return };
    if body.is_end_stream() {
        return;
    }
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(frame) = frame else { return out.send_reset(h2::Reason::INTERNAL_ERROR) };
        let sent = match frame.into_data() {
            Ok(data) => out.send_data(data, false),
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => {
                    let _ = out.send_trailers(trailers);
                    return;
                }
                Err(_) => continue,
            },
        };
        if sent.is_err() {
            return;
        }
    }
    let _ = out.send_data(Bytes::new(), true);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc;

    /// A task that says when it is woken.
    struct Task(mpsc::Sender<()>);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }

    fn task() -> (Waker, mpsc::Receiver<()>) {
        let (sender, woken) = mpsc::channel();
        (Waker::from(Arc::new(Task(sender))), woken)
    }

    #[test]
    fn what_is_woken_is_looked_at_once_and_wakes_the_task_only_at_rest() {
        let shared = Shared::new();
        let [http, sessions, _] = shared.wakers();
        let (waker, woken) = task();
        let mut cx = Context::from_waker(&waker);
        let mut looks = Vec::new();
        let polled = shared.rounds(&mut cx, |woken| {
            looks.push(woken);
            match looks.len() {
                1 => sessions.wake_by_ref(),
                2 => {
                    http.wake_by_ref();
                    http.wake_by_ref();
                }
                _ => {}
            }
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!(looks, [PARTS, SESSIONS, HTTP]);
        assert_eq!(woken.try_iter().count(), 0, "it was at work");
        http.wake_by_ref();
        http.wake_by_ref();
        sessions.wake_by_ref();
        assert_eq!(woken.try_iter().count(), 1);
        looks.clear();
        let polled = shared.rounds(&mut cx, |woken| {
            looks.push(woken);
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!(looks, [HTTP | SESSIONS]);
        sessions.wake_by_ref();
        assert_eq!(woken.try_iter().count(), 1, "it rests again");
    }

    #[test]
    fn a_busy_task_gives_others_their_turn_and_an_end_leaves_the_rest_woken() {
        let shared = Shared::new();
        let [http, sessions, _] = shared.wakers();
        let (waker, woken) = task();
        let mut cx = Context::from_waker(&waker);
        let mut looks = 0;
        let polled = shared.rounds(&mut cx, |_| {
            looks += 1;
            sessions.wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        assert_eq!((looks, woken.try_iter().count()), (ROUNDS, 1));
        let ended = shared.rounds(&mut cx, |woken| {
            http.wake_by_ref();
            Poll::Ready(woken)
        });
        assert_eq!(ended, Poll::Ready(SESSIONS));
        assert_eq!(shared.rounds(&mut cx, Poll::Ready), Poll::Ready(HTTP));
        assert_eq!(shared.rounds(&mut cx, Poll::Ready), Poll::Pending);
    }

    #[test]
    fn no_wake_up_of_another_thread_is_lost() {
        const LAST: u32 = 20_000;
        let shared = Shared::new();
        let [http, sessions, _] = shared.wakers();
        let (waker, woken) = task();
        let mut cx = Context::from_waker(&waker);
        let said = [AtomicU32::new(0), AtomicU32::new(0)];
        std::thread::scope(|scope| {
            for (said, waker) in said.iter().zip([http, sessions]) {
                scope.spawn(move || {
                    for number in 1..=LAST {
                        said.store(number, Ordering::Relaxed);
                        waker.wake_by_ref();
                    }
                });
            }
            let mut seen = [0; 2];
            loop {
                let polled = shared.rounds(&mut cx, |woken| {
                    for (at, part) in [HTTP, SESSIONS].into_iter().enumerate() {
                        if woken & part != 0 {
                            seen[at] = said[at].load(Ordering::Relaxed);
                        }
                    }
                    Poll::<()>::Pending
                });
                assert!(polled.is_pending());
                if seen == [LAST; 2] {
                    break;
                }
                woken.recv_timeout(Duration::from_secs(60)).expect("woken for what was said last");
            }
        });
    }
}
