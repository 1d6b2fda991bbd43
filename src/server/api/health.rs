//! gRPC health: serving until the server drains.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use assay_proto::health::v1::health_check_response::ServingStatus;
use assay_proto::health::v1::*;
use tokio_stream::Stream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::server::domain::Domain;

#[derive(Clone)]
pub struct HealthApi(pub Arc<Domain>);

fn response(draining: bool) -> HealthCheckResponse {
    let status = if draining { ServingStatus::NotServing } else { ServingStatus::Serving };
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl health_server::Health for HealthApi {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match request.into_inner().service.as_str() {
            "" => Ok(Response::new(response(self.0.draining()))),
            _ => Err(Status::not_found("only the process as a whole is known")),
        }
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let statuses = HashMap::from([(String::new(), response(self.0.draining()))]);
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let changes = WatchStream::new(self.0.drain_signal());
        Ok(Response::new(Box::pin(changes.map(|draining| Ok(response(draining))))))
    }
}
