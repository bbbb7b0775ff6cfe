//! Prometheus remote write 1.0: protobuf in snappy's block format, over HTTP/1.1 with keep-alive.

use prost::Message;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// `prometheus.WriteRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) timeseries: Vec<TimeSeries>,
}

/// `prometheus.TimeSeries`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<Sample>,
}

/// `prometheus.Label`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Label {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

/// `prometheus.Sample`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sample {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp: i64,
}

/// A connection to a server that takes remote write.
#[derive(Debug)]
pub(crate) struct Writer {
    address: SocketAddr,
    stream: TcpStream,
}

impl Writer {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the peer listens");
        stream.set_nodelay(true).expect("a TCP option");
        Self { address, stream }
    }

    /// Sends one request, packed before, and waits until it is taken. A connection that the peer has closed
    /// meanwhile (victoria-metrics does after two minutes) is opened anew.
    pub(crate) fn write_packed(&mut self, packed: &[u8]) {
        if self.try_write(packed).is_err() {
            *self = Self::connect(self.address);
            self.try_write(packed).expect("the peer answers on a new connection");
        }
    }

    fn try_write(&mut self, packed: &[u8]) -> std::io::Result<()> {
        let head = format!(
            "POST /api/v1/write HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
             X-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: {}\r\n\r\n",
            self.address,
            packed.len()
        );
        self.stream.write_all(head.as_bytes())?;
        self.stream.write_all(packed)?;
        let mut answer = Vec::new();
        let mut part = [0; 1_024];
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = self.stream.read(&mut part)?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend_from_slice(&part[..read]);
        }
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 204"), "remote write was refused: {text}");
        Ok(())
    }
}

/// A request as it goes over the wire.
pub(crate) fn pack(request: &WriteRequest) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("below snappy's limit")
}
