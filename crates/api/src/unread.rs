//! A body that is not read to its end, and the connection it comes on.
//!
//! The web server closes a connection soon after an answer that did not wait for the whole body. It
//! makes one exception: a chunked body that was dropped it reads on, in search of the next request,
//! for as long as the client likes and without a limit. So no chunked body is dropped before its answer is
//! written. The request only borrows it, and the answer keeps it.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::HttpMessage;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::web::Bytes;
use futures_util::Stream;

/// The body of a request that is being answered: the request reads it, the answer keeps it.
#[derive(Clone)]
pub(crate) struct RequestBody(Rc<RefCell<Payload>>);

impl RequestBody {
    /// Takes the chunked body of a request and lends it back; `None` where there is none.
    pub(crate) fn lend_to(request: &mut ServiceRequest) -> Option<RequestBody> {
        if !request.headers().contains_key(TRANSFER_ENCODING) {
            return None;
        }
        let body = match request.take_payload() {
            Payload::None => return None,
            payload => RequestBody(Rc::new(RefCell::new(payload))),
        };
        request.set_payload(Payload::Stream { payload: Box::pin(body.clone()) });
        Some(body)
    }

    /// Keeps the body until the answer is written.
    pub(crate) fn keep_until_written(self, response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
        response.map_body(|_, body| BoxBody::new(Keeper { body, _request_body: self }))
    }
}

impl Stream for RequestBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(context)
    }
}

/// An answer's body, and the request's along with it.
struct Keeper {
    body: BoxBody,
    _request_body: RequestBody,
}

impl MessageBody for Keeper {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use actix_web::middleware::from_fn;
    use actix_web::web::{BytesMut, post};
    use actix_web::{App, HttpResponse, HttpServer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use crate::body::{BODY_BYTES_MAX, Body};
    use crate::error::Error;

    /// Far longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);
    const CHUNK: &[u8] = b"1\r\n \r\n";

    /// A server that reads bodies at `/reads`, and nowhere else.
    fn serve() -> SocketAddr {
        let server = HttpServer::new(|| {
            App::new()
                .wrap(from_fn(crate::request_id::answer))
                .route("/reads", post().to(|_: Body<serde_json::Value>| async { "read" }))
                .route("/refuses", post().to(|| async { Err::<HttpResponse, _>(Error::NoRoute) }))
                .route("/has-nothing-to-say", post().to(|| async { HttpResponse::NoContent().finish() }))
        });
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0").unwrap();
        let address = server.addrs()[0];
        actix_web::rt::spawn(server.run());
        address
    }

    /// Begins a request with a chunked body.
    async fn begin(address: SocketAddr, path: &str) -> TcpStream {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(head(path).as_bytes()).await.unwrap();
        connection
    }

    fn head(path: &str) -> String {
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n"
        )
    }

    /// The status line of the next answer, which may come after others on the connection.
    async fn status(connection: &mut TcpStream) -> String {
        let mut received = BytesMut::new();
        while !received.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = timeout(PATIENCE, connection.read_buf(&mut received)).await.unwrap().unwrap();
            assert!(count > 0, "closed before it was answered: {received:?}");
        }
        let text = String::from_utf8_lossy(&received);
        text.lines().next().unwrap_or_default().to_owned()
    }

    /// Sends chunks until the server hangs up.
    async fn send_until_closed(mut connection: TcpStream, chunk: &[u8], pause: Duration) {
        let sending = async {
            while connection.write_all(chunk).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        };
        timeout(PATIENCE, sending).await.expect("the server reads on and on");
    }

    #[actix_web::test]
    async fn a_body_that_never_ends_does_not_hold_the_connection() {
        let address = serve();
        for (path, expected) in [
            ("/refuses", "HTTP/1.1 404 Not Found"),
            ("/has-nothing-to-say", "HTTP/1.1 204 No Content"),
            ("/nowhere", "HTTP/1.1 404 Not Found"),
        ] {
            let mut connection = begin(address, path).await;
            connection.write_all(CHUNK).await.unwrap();
            assert_eq!(status(&mut connection).await, expected);
            send_until_closed(connection, CHUNK, Duration::from_millis(50)).await;
        }
    }

    #[actix_web::test]
    async fn a_flood_is_not_read_on_after_its_answer() {
        let address = serve();
        let chunk = [&b"10000\r\n"[..], &[b' '; 1 << 16], b"\r\n"].concat();
        let mut connection = begin(address, "/reads").await;
        for _ in 0..=BODY_BYTES_MAX >> 16 {
            connection.write_all(&chunk).await.unwrap();
        }
        assert_eq!(status(&mut connection).await, "HTTP/1.1 413 Payload Too Large");
        send_until_closed(connection, &chunk, Duration::ZERO).await;
        let mut connection = begin(address, "/refuses").await;
        connection.write_all(&chunk).await.unwrap();
        assert_eq!(status(&mut connection).await, "HTTP/1.1 404 Not Found");
        send_until_closed(connection, &chunk, Duration::ZERO).await;
    }

    /// The web server sees to it by itself.
    #[actix_web::test]
    async fn a_body_of_an_announced_length_is_not_read_on_after_its_answer() {
        let address = serve();
        let head = head("/refuses").replace("transfer-encoding: chunked", "content-length: 1000000000000");
        for pause in [Duration::from_millis(50), Duration::ZERO] {
            let mut connection = TcpStream::connect(address).await.unwrap();
            connection.write_all(head.as_bytes()).await.unwrap();
            assert_eq!(status(&mut connection).await, "HTTP/1.1 404 Not Found");
            send_until_closed(connection, &[b' '; 1 << 10], pause).await;
        }
    }

    #[actix_web::test]
    async fn a_connection_goes_on_after_a_body_that_was_read() {
        let mut connection = begin(serve(), "/reads").await;
        for _ in 0..3 {
            connection.write_all(b"2\r\n{}\r\n0\r\n\r\n").await.unwrap();
            assert_eq!(status(&mut connection).await, "HTTP/1.1 200 OK");
            connection.write_all(head("/reads").as_bytes()).await.unwrap();
        }
    }
}
