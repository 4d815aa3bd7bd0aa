//! What every store must do.

mod attempt;
mod audit_log;
mod cancel;
mod ended;
mod fair_share;
mod flush;
mod lease;
mod listing;
mod submit;
mod swap;
mod sweep;
mod totals;
mod workers;

pub(crate) async fn on_cluster(cluster: &longhand_tests::cluster::Cluster) {
    attempt::on_cluster(cluster).await;
    cancel::on_cluster(cluster).await;
    ended::on_cluster(cluster).await;
    flush::on_cluster(cluster).await;
    lease::on_cluster(cluster).await;
    listing::on_cluster(cluster).await;
    audit_log::on_cluster(cluster).await;
    workers::on_cluster(cluster).await;
    fair_share::on_cluster(cluster).await;
    submit::on_cluster(cluster).await;
    swap::on_cluster(cluster).await;
    sweep::on_cluster(cluster).await;
    totals::on_cluster(cluster).await;
}
