//! How the clients' models become the next global model: one file a strategy.

mod fedavg;

pub use fedavg::FedAvg;
