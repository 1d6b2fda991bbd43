//! gRPC health on the Workload API's socket: `""` and `SpiffeWorkloadAPI` serve while this host is
//! attested, `liveness` as long as the agent answers at all.

use std::collections::HashMap;
use std::sync::Arc;

use assay_proto::health::v1::HealthCheckRequest;
use assay_proto::health::v1::HealthCheckResponse;
use assay_proto::health::v1::HealthListRequest;
use assay_proto::health::v1::HealthListResponse;
use assay_proto::health::v1::health_check_response::ServingStatus;
use assay_proto::health::v1::health_server::Health;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::agent::identities::Identities;

pub const LIVENESS: &str = "liveness";
const SERVICES: [&str; 3] = ["", "SpiffeWorkloadAPI", LIVENESS];

#[derive(Debug, Clone)]
pub struct HealthService {
    pub identities: Arc<Identities>,
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.status(&request.get_ref().service) {
            Some(status) => Ok(Response::new(status)),
            None => Err(Status::not_found("no such service")),
        }
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let named = |name: &str| Some((name.to_owned(), self.status(name)?));
        let statuses: HashMap<_, _> = SERVICES.into_iter().filter_map(named).collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let name = request.into_inner().service;
        let (say, stream) = mpsc::channel(1);
        let service = self.clone();
        // Ends with the stream or with the agent.
        tokio::spawn(async move {
            let mut changes = service.identities.changes();
            let mut said = None;
            loop {
                changes.borrow_and_update();
                let unknown = ServingStatus::ServiceUnknown.into();
                let now = service.status(&name).unwrap_or(HealthCheckResponse { status: unknown });
                if said.as_ref() != Some(&now) {
                    if say.send(Ok(now)).await.is_err() {
                        return;
                    }
                    said = Some(now);
                }
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = say.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl HealthService {
    fn status(&self, name: &str) -> Option<HealthCheckResponse> {
        let serves = name == LIVENESS || self.identities.state().may_issue();
        let status = match serves {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        SERVICES.contains(&name).then(|| HealthCheckResponse { status: status.into() })
    }
}
