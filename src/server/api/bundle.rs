//! SPIRE's Bundle service: the bundle of this trust domain. Federation is not served.

use std::sync::Arc;

use assay_proto::spire::api::server::bundle::v1::*;
use assay_proto::spire::api::types;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::server::domain::Domain;
use crate::server::wire;

#[derive(Clone)]
pub struct BundleApi(pub Arc<Domain>);

fn absent<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("federation and foreign authorities are not served"))
}

#[tonic::async_trait]
impl bundle_server::Bundle for BundleApi {
    async fn count_bundles(
        &self,
        _: Request<CountBundlesRequest>,
    ) -> Result<Response<CountBundlesResponse>, Status> {
        Ok(Response::new(CountBundlesResponse { count: 1 }))
    }

    async fn get_bundle(
        &self,
        request: Request<GetBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let mask = request.into_inner().output_mask;
        Ok(Response::new(wire::bundle(&self.0.authority.bundle(), mask.as_ref())))
    }

    async fn append_bundle(
        &self,
        _: Request<AppendBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        absent()
    }

    async fn publish_jwt_authority(
        &self,
        _: Request<PublishJwtAuthorityRequest>,
    ) -> Result<Response<PublishJwtAuthorityResponse>, Status> {
        absent()
    }

    async fn publish_wit_authority(
        &self,
        _: Request<PublishWitAuthorityRequest>,
    ) -> Result<Response<PublishWitAuthorityResponse>, Status> {
        absent()
    }

    async fn list_federated_bundles(
        &self,
        _: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        Ok(Response::new(ListFederatedBundlesResponse::default()))
    }

    async fn get_federated_bundle(
        &self,
        _: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        Err(Status::not_found("no federated bundle"))
    }

    async fn batch_create_federated_bundle(
        &self,
        _: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        absent()
    }

    async fn batch_update_federated_bundle(
        &self,
        _: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        absent()
    }

    async fn batch_set_federated_bundle(
        &self,
        _: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        absent()
    }

    async fn batch_delete_federated_bundle(
        &self,
        _: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        absent()
    }
}
