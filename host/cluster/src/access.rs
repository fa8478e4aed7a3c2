//! What a job may touch, as it was granted: said once, opened wherever a part of the job runs.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ingle_blocks::{Grants, Offer, Paths, S3Options, Volume};
use ingle_core::master::SECRETS_GONE;
use ingle_core::net::Reachable;
use ingle_proto::prost::Message;
use ingle_proto::v1;
use ingle_sandbox::{Capabilities, Folders, NetGrant, NetHost, Network, Preopen};

use crate::broken::Broken;

/// What was granted, and what both roles are told.
#[derive(Clone, Debug, Default)]
pub struct AccessSpec {
    /// The job's arguments, its name first.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Variables of its environment that nobody else sees.
    pub secrets: Vec<(String, SecretValue)>,
    /// What it may read; relative paths begin at the working directory.
    pub allow_read: Vec<PathBuf>,
    /// What it may write.
    pub allow_write: Vec<PathBuf>,
    /// Where relative paths begin.
    pub working_dir: PathBuf,
    /// Whom it may connect to.
    pub net: Vec<AllowedNet>,
    /// Where the cluster listens, which only a grant of just that opens.
    pub cluster: Vec<String>,
    /// Files that come with the job: names and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// How s3:// is reached.
    pub s3: S3Options,
    /// In which steps its clocks tick; none: as fine as the host's.
    pub clock: Option<Duration>,
}

/// A grant, and what the name in it meant when the job was submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedNet {
    /// What was granted.
    pub grant: NetGrant,
    /// Addresses of its host, if that is a name.
    pub addresses: Vec<IpAddr>,
}

impl AllowedNet {
    /// Whether a host lets jobs reach some of it, as far as is known. A name may mean something else there.
    fn is_offered(&self, net: &Reachable) -> bool {
        match &self.grant.host {
            NetHost::Addresses(range) => net.has_some_of(range),
            NetHost::Name(_) => *net != Reachable::NONE,
        }
    }
}

/// What only the job sees.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretValue(pub String);

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What was submitted, with what was kept beside it. Read by the driver's own process: it may be much larger than its bytes.
pub fn submission(bytes: &[u8], secrets: Option<v1::Secrets>) -> Result<v1::Submission, String> {
    let mut submission =
        v1::Submission::decode(bytes).map_err(|e| format!("its submission can't be read: {e}"))?;
    if submission.has_secrets && secrets.is_none() {
        return Err(SECRETS_GONE.into());
    }
    submission.access.get_or_insert_default().secrets = secrets;
    Ok(submission)
}

/// What was granted, opened on this machine.
pub struct Access {
    /// For the host's own reading and writing on behalf of the job.
    pub grants: Arc<Grants>,
    /// For WASI.
    pub capabilities: Capabilities,
}

/// The addresses of `host:port`. It may wait for the network. If nobody knows any, any address's port: that closes it wherever it isn't public.
pub fn addresses(host_port: &str) -> Vec<SocketAddr> {
    match host_port.to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(error) => {
            tracing::warn!("{host_port}, where the cluster listens, isn't found: {error}");
            let port = host_port.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            port.map(|port| SocketAddr::from(([0, 0, 0, 0], port))).into_iter().collect()
        }
    }
}

/// Addresses of its cluster that a driver may name.
const MAX_CLUSTER: usize = 50_000;

/// What a worker's owner lets jobs have, for the processes that it starts.
pub fn rules(offer: &Offer, cluster: Vec<String>) -> Result<v1::HostRules, String> {
    let volume = |(name, volume): (&String, &Volume)| {
        let path = text(&volume.path)?;
        Ok(v1::Volume { name: name.clone(), path, read_only: volume.read_only })
    };
    Ok(v1::HostRules {
        volumes: offer.volumes.iter().map(volume).collect::<Result<_, String>>()?,
        paths: match &offer.paths {
            Paths::Any => Vec::new(),
            Paths::Only(paths) => texts(paths)?,
        },
        any_path: offer.paths == Paths::Any,
        net: offer.net.texts(),
        closed: texts(&offer.closed)?,
        cluster,
    })
}

/// As a process finds it in its configuration. Without it, nothing is offered.
pub fn offer(rules: Option<v1::HostRules>) -> Offer {
    let rules = rules.unwrap_or_default();
    let volume = |volume: v1::Volume| {
        (volume.name, Volume { path: volume.path.into(), read_only: volume.read_only })
    };
    let paths = |paths: Vec<String>| paths.into_iter().map(PathBuf::from).collect();
    Offer {
        volumes: rules.volumes.into_iter().map(volume).collect(),
        paths: if rules.any_path { Paths::Any } else { Paths::Only(paths(rules.paths)) },
        closed: paths(rules.closed),
        // None, if it can't be read: as without rules.
        net: Reachable::parse(&rules.net).unwrap_or(Reachable::NONE),
    }
}

fn text(path: &Path) -> Result<String, String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("the name of {} isn't UTF-8, which a cluster needs", path.display()))
}

fn texts(paths: &[PathBuf]) -> Result<Vec<String>, String> {
    paths.iter().map(|path| text(path)).collect()
}

impl AccessSpec {
    /// Opens everything on a host that offers something; files that come with the job are put into `scratch`. The error is for the user.
    pub fn open(&self, scratch: &Path, offer: &Offer) -> Result<Access, Broken> {
        let mut grants = Grants::of(offer, &self.working_dir, &self.allow_read, &self.allow_write)
            .map_err(|e| Broken::Refused(e.to_string()))?;
        grants = grants.with_s3(self.s3.clone()).map_err(|e| Broken::Refused(e.to_string()))?;
        if !self.files.is_empty() {
            grants.ship(&self.files, scratch).map_err(|e| e.to_string())?;
        }
        // WASI can't open a folder for writing alone, so one that may not be read isn't opened for it.
        let preopens = grants.preopens().map_err(|e| Broken::Refused(e.to_string()))?;
        let preopen = |p: ingle_blocks::Preopen| Preopen {
            folder: p.dir.into_std_file().into(),
            guest: p.guest,
            write: p.write,
        };
        let folders = Folders::new(preopens.into_iter().filter(|p| p.read).map(preopen))
            .map_err(|e| format!("opening what was granted: {e}"))?;
        if let Some(net) = self.net.iter().find(|net| !net.is_offered(&offer.net)) {
            let what = format!("--allow-net={}", net.grant);
            return Err(Broken::Refused(offer.net.refusal(what)));
        }
        let known = self.net.iter().map(|net| (net.grant.host_name(), net.addresses.clone()));
        let known = known.filter_map(|(name, addresses)| Some((name?.to_owned(), addresses)));
        let network = Network::new(self.net.iter().map(|net| net.grant.clone()).collect(), known);
        let network = network.within(offer.net.clone());
        network.protect(self.cluster.iter().flat_map(|address| addresses(address)));
        let is_secret = |name: &str| self.secrets.iter().any(|(secret, _)| secret == name);
        let open = self.env.iter().filter(|(name, _)| !is_secret(name));
        let secrets = self.secrets.iter().map(|(name, value)| (name.clone(), value.0.clone()));
        let capabilities = Capabilities {
            args: self.args.clone(),
            env: open.cloned().chain(secrets).collect(),
            folders,
            net: Arc::new(network),
            clock: self.clock,
        };
        Ok(Access { grants: Arc::new(grants), capabilities })
    }

    /// For processes elsewhere, but for what is secret. The error names a path that can't be sent.
    pub fn to_message(&self) -> Result<v1::Access, String> {
        let net = |net: &AllowedNet| v1::NetGrant {
            text: net.grant.to_string(),
            addresses: net.addresses.iter().map(ToString::to_string).collect(),
        };
        let file = |(name, data): &(String, Vec<u8>)| v1::ShippedFile {
            name: name.clone(),
            data: data.clone(),
        };
        Ok(v1::Access {
            args: self.args.clone(),
            env: self.env.iter().map(|(name, value)| variable(name, value)).collect(),
            allow_read: texts(&self.allow_read)?,
            allow_write: texts(&self.allow_write)?,
            working_dir: text(&self.working_dir)?,
            allow_net: self.net.iter().map(net).collect(),
            files: self.files.iter().map(file).collect(),
            secrets: None,
            cluster: self.cluster.clone(),
            clock_resolution: self.clock.map_or(0, |step| step.as_nanos().try_into().unwrap_or(0)),
        })
    }

    /// What is secret, for processes elsewhere; none if nothing is.
    pub fn secrets_message(&self) -> Option<v1::Secrets> {
        let is_usual = self.s3 == S3Options::default();
        (!self.secrets.is_empty() || !is_usual).then(|| v1::Secrets {
            env: self.secrets.iter().map(|(name, value)| variable(name, &value.0)).collect(),
            s3: (!is_usual).then(|| s3_message(self.s3.clone())),
        })
    }

    /// From a process elsewhere. What makes no sense of it is left out: then less is granted.
    pub fn from_message(message: v1::Access) -> Self {
        let net = |net: v1::NetGrant| {
            let addresses = net.addresses.iter().filter_map(|a| a.parse().ok()).collect();
            Some(AllowedNet { grant: NetGrant::parse(&net.text).ok()?, addresses })
        };
        let secrets = message.secrets.unwrap_or_default();
        let secret = |v: v1::Variable| (v.name, SecretValue(v.value));
        Self {
            args: message.args,
            env: message.env.into_iter().map(|v| (v.name, v.value)).collect(),
            secrets: secrets.env.into_iter().map(secret).collect(),
            allow_read: message.allow_read.into_iter().map(PathBuf::from).collect(),
            allow_write: message.allow_write.into_iter().map(PathBuf::from).collect(),
            working_dir: message.working_dir.into(),
            files: message.files.into_iter().map(|file| (file.name, file.data)).collect(),
            s3: secrets.s3.map(s3_options).unwrap_or_default(),
            net: message.allow_net.into_iter().filter_map(net).collect(),
            // No names: nobody else chooses what is looked up here.
            cluster: message
                .cluster
                .into_iter()
                .filter(|address| address.parse::<SocketAddr>().is_ok())
                .take(MAX_CLUSTER)
                .collect(),
            clock: (message.clock_resolution > 0)
                .then(|| Duration::from_nanos(message.clock_resolution)),
        }
    }
}

fn variable(name: &str, value: &str) -> v1::Variable {
    v1::Variable { name: name.to_owned(), value: value.to_owned() }
}

fn s3_message(options: S3Options) -> v1::S3 {
    let S3Options { endpoint, region, access_key, secret_key, session_token, path_style } = options;
    v1::S3 { endpoint, region, access_key, secret_key, session_token, path_style }
}

fn s3_options(message: v1::S3) -> S3Options {
    let v1::S3 { endpoint, region, access_key, secret_key, session_token, path_style } = message;
    S3Options { endpoint, region, access_key, secret_key, session_token, path_style }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_submitted_gets_its_secrets_and_is_nothing_without() {
        let submitted = v1::Submission { has_secrets: true, ..v1::Submission::default() };
        let bytes = submitted.encode_to_vec();
        let whole = submission(&bytes, Some(v1::Secrets::default())).unwrap();
        assert_eq!(whole.access.unwrap().secrets, Some(v1::Secrets::default()));
        assert_eq!(submission(&bytes, None).unwrap_err(), SECRETS_GONE);
        assert!(submission(&[], None).unwrap().access.unwrap().secrets.is_none());
        assert!(submission(&[0xff], None).unwrap_err().contains("can't be read"));
    }

    #[test]
    fn what_is_secret_is_neither_shown_nor_in_what_is_stored() {
        let spec = AccessSpec {
            secrets: vec![("TOKEN".into(), SecretValue("swordfish".into()))],
            s3: S3Options { secret_key: Some("swordfish".into()), ..S3Options::default() },
            ..AccessSpec::default()
        };
        assert!(!format!("{spec:?}").contains("swordfish"));
        let (message, secrets) = (spec.to_message().unwrap(), spec.secrets_message());
        assert!(!format!("{message:?}{secrets:?}").contains("swordfish"));
        let back = AccessSpec::from_message(v1::Access { secrets, ..message.clone() });
        assert_eq!((&back.secrets, &back.s3), (&spec.secrets, &spec.s3));
        assert!(AccessSpec::from_message(message).secrets.is_empty());
        assert_eq!(AccessSpec::default().secrets_message(), None);
    }

    #[test]
    fn grants_and_offers_are_the_same_elsewhere() {
        let grant = NetGrant::parse("[fd00::/8]:80-90").unwrap();
        let net = vec![AllowedNet { grant, addresses: vec!["1.1.1.1".parse().unwrap()] }];
        let spec = AccessSpec { net, cluster: vec!["10.0.0.1:1".into()], ..AccessSpec::default() };
        let back = AccessSpec::from_message(spec.to_message().unwrap());
        assert_eq!((back.net, back.cluster), (spec.net, spec.cluster));
        let mut own = Offer { closed: vec!["/w".into()], ..Offer::default() };
        own.add_volume("v=/x:ro").unwrap();
        assert_eq!(offer(Some(rules(&own, Vec::new()).unwrap())), own);
        own.paths = Paths::Only(vec!["/a".into()]);
        own.net = Reachable::parse(&["public".into(), "10.0.0.0/8".into()]).unwrap();
        assert_eq!(offer(Some(rules(&own, Vec::new()).unwrap())), own);
        let none = offer(None);
        assert_eq!(none.paths, Paths::Only(Vec::new()), "without rules nothing is offered");
        assert_eq!(none.net, Reachable::NONE);
    }
}
