#![doc = include_str!("../README.md")]

mod codec;
mod error;
mod file;
mod index_file;
mod searching;
