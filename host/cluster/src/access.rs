//! What a job may touch, as it was granted: said once, opened wherever a part of the job runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ingle_blocks::{Grants, S3Options};
use ingle_proto::v1;
use ingle_sandbox::{Capabilities, Folders, NetGrant, Preopen};

/// What was granted, and what both roles are told.
#[derive(Clone, Debug, Default)]
pub struct AccessSpec {
    /// The job's arguments, its name first.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// What it may read; relative paths begin at the working directory.
    pub allow_read: Vec<PathBuf>,
    /// What it may write.
    pub allow_write: Vec<PathBuf>,
    /// Where relative paths begin.
    pub working_dir: PathBuf,
    /// Whom it may connect to.
    pub net: Vec<NetGrant>,
    /// Files that come with the job: names and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// How s3:// is reached.
    pub s3: S3Options,
}

/// What was granted, opened on this machine.
pub struct Access {
    /// For the host's own reading and writing on behalf of the job.
    pub grants: Arc<Grants>,
    /// For WASI.
    pub capabilities: Capabilities,
}

impl AccessSpec {
    /// Opens everything; files that come with the job are put into `scratch`. The error is for the user.
    pub fn open(&self, scratch: &Path) -> Result<Access, String> {
        let mut grants = Grants::new_in(&self.working_dir, &self.allow_read, &self.allow_write)
            .map_err(|e| e.to_string())?;
        grants = grants.with_s3(self.s3.clone());
        if !self.files.is_empty() {
            grants.ship(&self.files, scratch).map_err(|e| e.to_string())?;
        }
        // WASI can't open a folder for writing alone, so one that may not be read isn't opened for it.
        let preopens = grants.preopens().map_err(|e| e.to_string())?;
        let preopen = |p: ingle_blocks::Preopen| Preopen {
            folder: p.dir.into_std_file().into(),
            guest: p.guest,
            write: p.write,
        };
        let folders = Folders::new(preopens.into_iter().filter(|p| p.read).map(preopen))
            .map_err(|e| format!("opening what was granted: {e}"))?;
        let capabilities = Capabilities {
            args: self.args.clone(),
            env: self.env.clone(),
            folders,
            net: self.net.clone(),
        };
        Ok(Access { grants: Arc::new(grants), capabilities })
    }

    /// For processes elsewhere. The error names a path that can't be sent.
    pub fn to_message(&self) -> Result<v1::Access, String> {
        let text = |path: &PathBuf| {
            path.to_str().map(str::to_owned).ok_or_else(|| {
                format!("the name of {} isn't UTF-8, which a cluster needs", path.display())
            })
        };
        let texts = |paths: &[PathBuf]| paths.iter().map(text).collect::<Result<Vec<_>, _>>();
        let variable = |(name, value): &(String, String)| v1::Variable {
            name: name.clone(),
            value: value.clone(),
        };
        let net = |grant: &NetGrant| v1::NetGrant {
            host: grant.host.clone(),
            port: grant.port.unwrap_or(0).into(),
            addresses: grant.addresses.iter().map(ToString::to_string).collect(),
        };
        Ok(v1::Access {
            args: self.args.clone(),
            env: self.env.iter().map(variable).collect(),
            allow_read: texts(&self.allow_read)?,
            allow_write: texts(&self.allow_write)?,
            working_dir: text(&self.working_dir)?,
            allow_net: self.net.iter().map(net).collect(),
            files: self
                .files
                .iter()
                .map(|(name, data)| v1::ShippedFile { name: name.clone(), data: data.clone() })
                .collect(),
            s3: Some(s3_message(self.s3.clone())),
        })
    }

    /// From a process elsewhere. What makes no sense of it is left out: then less is granted.
    pub fn from_message(message: v1::Access) -> Self {
        let net = |grant: v1::NetGrant| NetGrant {
            host: grant.host,
            port: u16::try_from(grant.port).ok().filter(|port| *port != 0),
            addresses: grant.addresses.iter().filter_map(|a| a.parse().ok()).collect(),
        };
        Self {
            args: message.args,
            env: message.env.into_iter().map(|v| (v.name, v.value)).collect(),
            allow_read: message.allow_read.into_iter().map(PathBuf::from).collect(),
            allow_write: message.allow_write.into_iter().map(PathBuf::from).collect(),
            working_dir: message.working_dir.into(),
            files: message.files.into_iter().map(|file| (file.name, file.data)).collect(),
            s3: message.s3.map(s3_options).unwrap_or_default(),
            net: message
                .allow_net
                .into_iter()
                .filter(|grant| grant.port <= u32::from(u16::MAX))
                .map(net)
                .collect(),
        }
    }
}

fn s3_message(options: S3Options) -> v1::S3 {
    let S3Options { endpoint, region, access_key, secret_key, session_token, path_style } = options;
    v1::S3 { endpoint, region, access_key, secret_key, session_token, path_style }
}

fn s3_options(message: v1::S3) -> S3Options {
    let v1::S3 { endpoint, region, access_key, secret_key, session_token, path_style } = message;
    S3Options { endpoint, region, access_key, secret_key, session_token, path_style }
}
