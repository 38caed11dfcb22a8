//! placeholder
/// x
#[derive(Debug)]
pub struct HoldingPages;
impl HoldingPages {
    /// x
    pub fn new() -> Self { Self }
    /// x
    pub async fn set(&mut self, _e: stead_proto::id::Name, _s: stead_proto::site::EndpointSpec, _on: bool) {}
    /// x
    pub async fn clear(&mut self) {}
}
