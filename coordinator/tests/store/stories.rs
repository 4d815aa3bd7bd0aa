//! What every store must do, told as stories.

mod attempt;
mod flush;
mod lease;
mod listing;
mod people;
mod sharing;
mod submit;
mod swap;
mod sweep;

pub(crate) async fn on_cluster(cluster: &longhand_tests::cluster::Cluster) {
    attempt::on_cluster(cluster).await;
    flush::on_cluster(cluster).await;
    lease::on_cluster(cluster).await;
    listing::on_cluster(cluster).await;
    people::on_cluster(cluster).await;
    sharing::on_cluster(cluster).await;
    submit::on_cluster(cluster).await;
    swap::on_cluster(cluster).await;
    sweep::on_cluster(cluster).await;
}
