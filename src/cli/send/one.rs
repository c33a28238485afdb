//! Stand-in until the producer is there.
use super::{
    arguments::Arguments,
    publish::{NotTaken, Publish, Taken},
};
use crate::cli::exit::Exit;
#[derive(Clone)]
pub(super) struct Producer;
impl Producer {
    pub(super) async fn close(&self) {}
}
impl Publish for Producer {
    async fn publish(&self, _event: Vec<u8>) -> Result<Taken, NotTaken> {
        Err(NotTaken::Setup("no producer".into()))
    }
}
pub(super) fn producer(_: &Arguments) -> Result<Producer, Exit> {
    Ok(Producer)
}
pub(super) fn send(_: &Arguments, _: Vec<u8>) -> Result<Exit, Exit> {
    Err(Exit::Failed)
}
