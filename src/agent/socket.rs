//! Serves the Workload API and health on the agent's Unix socket, until told to stop.

use std::time::Duration;

use assay_proto::health::v1::health_server::HealthServer;
use assay_proto::workload::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

use crate::agent::health::HealthService;
use crate::agent::host::HostState;
use crate::agent::listener::Listener;
use crate::agent::workload_api::RequireHeader;
use crate::agent::workload_api::WorkloadApi;

/// Calls open at once on one connection.
const MAX_STREAMS: u32 = 64;
/// The longest thing a workload says is a token.
const MAX_MESSAGE: usize = 64 * 1_024;
/// A connection that answers no ping for this long is closed.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(20);

/// Returns when every call has ended after `stop`, or `drain` after it.
pub async fn serve(
    listener: Listener,
    api: WorkloadApi,
    drain: Duration,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let identities = std::sync::Arc::clone(&api.identities);
    let health = HealthService { identities: std::sync::Arc::clone(&identities) };
    let workload = SpiffeWorkloadApiServer::new(api).max_decoding_message_size(MAX_MESSAGE);
    let health = HealthServer::new(health).max_decoding_message_size(MAX_MESSAGE);
    let (accepted, connections) = mpsc::channel(16);
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_ANSWER))
        .add_service(InterceptedService::new(workload, RequireHeader))
        .add_service(health)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async {
            // Whether it was sent or dropped: it is time.
            let _ = stopped.await;
        });
    let accepting = listener.run(accepted);
    tokio::pin!(server, accepting);
    tokio::select! {
        result = &mut server => return result,
        () = &mut accepting => {}
        () = stop => {}
    }
    // Streams that are open end by themselves when the state says so.
    identities.set_state(HostState::Stopping);
    let _ = stopping.send(());
    match tokio::time::timeout(drain, server).await {
        Ok(result) => result,
        Err(_) => {
            tracing::warn!(?drain, "calls still open at the end of the drain were cut off");
            Ok(())
        }
    }
}
