//! What the job may touch: `--allow-…` and `--env`, as grants and capabilities.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;

use ingle_cluster::{AccessSpec, S3Options};
use ingle_sandbox::NetGrant;

use crate::exit::{Code, Failure};
use crate::options::Options;
use crate::settings::{self, Settings};

/// What the flags grant.
pub fn spec(options: &Options, settings: &Settings) -> Result<AccessSpec, Failure> {
    let working_dir = std::env::current_dir()
        .map_err(|e| Failure::host(format!("finding the working directory: {e}")))?;
    let name = options.job().file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(AccessSpec {
        args: std::iter::once(name).chain(options.args().iter().cloned()).collect(),
        env: environment(&options.env, &options.allow_env)?,
        allow_read: options.allow_read.clone(),
        allow_write: options.allow_write.clone(),
        working_dir,
        files: shipped(&options.files)?,
        s3: s3(options, settings, |name| std::env::var(name).ok())?,
        net: options.allow_net.iter().map(|text| net_grant(text)).collect::<Result<_, _>>()?,
    })
}

/// How s3:// is reached: by settings, else by what other tools read of the environment. Only if something of it is granted: keys that aren't
/// needed stay here.
fn s3(
    options: &Options,
    settings: &Settings,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<S3Options, Failure> {
    let is_s3 = |path: &PathBuf| {
        path.to_str().is_some_and(|url| url.starts_with("s3://") || url.starts_with("s3a://"))
    };
    if !options.allow_read.iter().chain(&options.allow_write).any(is_s3) {
        return Ok(S3Options::default());
    }
    let value = |key: &str, names: &[&str]| {
        let set = settings.get(key).map(str::to_owned);
        set.or_else(|| names.iter().find_map(|name| variable(name).filter(|v| !v.is_empty())))
    };
    let endpoint = value(settings::S3_ENDPOINT, &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
    if let Some(url) = endpoint.as_ref().filter(|url| !url.starts_with("http")) {
        return Err(Failure::usage(format!(
            "{} is `{url}`; write http://HOST:PORT or https://HOST",
            settings::S3_ENDPOINT
        )));
    }
    let access_key = value(settings::S3_ACCESS_KEY, &["AWS_ACCESS_KEY_ID"]);
    let secret_key = value(settings::S3_SECRET_KEY, &["AWS_SECRET_ACCESS_KEY"]);
    if access_key.is_some() != secret_key.is_some() {
        return Err(Failure::usage(format!(
            "s3:// needs both {} and {}, or neither",
            settings::S3_ACCESS_KEY,
            settings::S3_SECRET_KEY
        )));
    }
    // One of the environment belongs to the keys of the environment.
    let is_set = settings.get(settings::S3_ACCESS_KEY).is_some();
    let token_names: &[&str] = if is_set { &[] } else { &["AWS_SESSION_TOKEN"] };
    let path_style = match settings.get(settings::S3_PATH_STYLE) {
        None => None,
        Some(_) => Some(settings.switch(settings::S3_PATH_STYLE, true)?),
    };
    Ok(S3Options {
        endpoint,
        region: value(settings::S3_REGION, &["AWS_REGION", "AWS_DEFAULT_REGION"]),
        access_key,
        secret_key,
        session_token: value(settings::S3_SESSION_TOKEN, token_names),
        path_style,
    })
}

/// All files of `--files` together; they travel in one message.
const MAX_SHIPPED: u64 = 16 << 20;

/// The files that come with the job, by their names.
fn shipped(paths: &[PathBuf]) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut left = MAX_SHIPPED;
    for path in paths {
        let bad = |why: &dyn std::fmt::Display| {
            Failure::usage(format!("--files {}: {why}", path.display()))
        };
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| bad(&"it has no name, or one that isn't UTF-8"))?;
        if files.iter().any(|(known, _)| known == name) {
            return Err(bad(&"another file has the same name"));
        }
        let length = std::fs::metadata(path).map_err(|e| bad(&e))?.len();
        let Some(rest) = left.checked_sub(length) else {
            return Err(bad(&"all files together may have 16 MiB; use --allow-read for more"));
        };
        left = rest;
        files.push((name.to_owned(), std::fs::read(path).map_err(|e| bad(&e))?));
    }
    Ok(files)
}

/// The job's environment: what is passed through, then what is given, which wins.
fn environment(given: &[String], allowed: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut env: Vec<(String, String)> = Vec::new();
    let is_allowed = |name: &str| allowed.iter().any(|a| a == "*" || a == name);
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else { continue };
        if !is_allowed(&name) {
            continue;
        }
        let value = value.into_string().map_err(|_| {
            Failure::usage(format!(
                "--allow-env: the value of {name} isn't UTF-8, which a job can't be given"
            ))
        })?;
        env.push((name, value));
    }
    for pair in given {
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Failure::usage(format!("--env {pair}: write --env NAME=VALUE")));
        };
        env.retain(|(known, _)| known != name);
        env.push((name.to_owned(), value.to_owned()));
    }
    Ok(env)
}

/// `HOST`, `HOST:PORT`, `1.2.3.4:PORT`, `[::1]:PORT`. A name means now what it means for the job.
fn net_grant(text: &str) -> Result<NetGrant, Failure> {
    let bad =
        |why: &str| Failure::usage(format!("--allow-net {text}: {why}; write HOST or HOST:PORT"));
    let (host, port) = split_host(text).map_err(bad)?;
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => {
            let found = (host, port.unwrap_or(0)).to_socket_addrs();
            let found = found.map_err(|e| {
                Failure::new(
                    Code::Host,
                    format!("--allow-net {text}: can't find the address of {host}: {e}"),
                )
            })?;
            found.map(|address| address.ip()).collect()
        }
    };
    Ok(NetGrant { host: host.to_owned(), port, addresses })
}

/// A host, and the port that stands behind it.
pub fn split_host(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("there is no `]`")?;
        match rest {
            "" => (host, None),
            rest => (host, Some(rest.strip_prefix(':').ok_or("after `]` there must be `:PORT`")?)),
        }
    } else if text.parse::<IpAddr>().is_ok() {
        (text, None)
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err("there is no host");
    }
    let port = port.map(|port| match port.parse() {
        Ok(0) | Err(_) => Err("the port isn't a number from 1 to 65535"),
        Ok(port) => Ok(port),
    });
    Ok((host, port.transpose()?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        assert_eq!(split_host("example.org"), Ok(("example.org", None)));
        assert_eq!(split_host("example.org:443"), Ok(("example.org", Some(443))));
        assert_eq!(split_host("10.0.0.1"), Ok(("10.0.0.1", None)));
        assert_eq!(split_host("::1"), Ok(("::1", None)));
        assert_eq!(split_host("[::1]:80"), Ok(("::1", Some(80))));
        for bad in ["", ":80", "h:0", "h:x", "h:70000", "[::1", "[::1]80"] {
            assert!(split_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_is_granted_as_it_is() {
        let grant = net_grant("127.0.0.1:8080").unwrap();
        assert_eq!((grant.port, grant.addresses), (Some(8080), vec!["127.0.0.1".parse().unwrap()]));
    }

    #[test]
    fn keys_come_from_settings_or_the_environment_and_only_if_they_are_needed() {
        let variable = |name: &str| (name.starts_with("AWS_")).then(|| name.to_lowercase());
        let parse = |flag: &str| Options::parse_from(["rsubmit", flag, "job.wasm"]);
        let none = Settings::default();
        let unneeded = s3(&parse("--allow-read=data"), &none, variable).unwrap();
        assert_eq!(unneeded, S3Options::default());
        let options = parse("--allow-read=s3://b/k");
        let bad = s3(&options, &none, |name| (name == "AWS_ENDPOINT_URL").then(|| "x".into()));
        assert!(bad.unwrap_err().text.contains("http://HOST:PORT"));
        let half = s3(&options, &none, |name| (name == "AWS_ACCESS_KEY_ID").then(|| "x".into()));
        assert!(half.unwrap_err().text.contains("ingle.s3.secret.key"));
        let conf = ["ingle.s3.endpoint=http://e".to_owned(), "ingle.s3.region=r".to_owned()];
        let settings = Settings::gather(None, &conf).unwrap();
        let both = s3(&options, &settings, variable).unwrap();
        assert_eq!(both.endpoint.as_deref(), Some("http://e"));
        assert_eq!(both.region.as_deref(), Some("r"));
        assert_eq!(both.secret_key.as_deref(), Some("aws_secret_access_key"));
        assert!(!format!("{both:?}").contains("aws_secret"), "secrets aren't shown");
        assert_eq!(both.session_token.as_deref(), Some("aws_session_token"));
        let conf = ["endpoint=http://e", "access.key=a", "secret.key=s"];
        let conf = conf.map(|pair| format!("ingle.s3.{pair}"));
        let settings = Settings::gather(None, &conf).unwrap();
        let others = s3(&options, &settings, variable).unwrap();
        assert_eq!(others.session_token, None, "a token goes with its keys");
    }

    #[test]
    fn nothing_of_the_environment_is_seen_without_leave() {
        assert_eq!(environment(&[], &[]), Ok(Vec::new()));
        let path = std::env::var("PATH").unwrap();
        let allowed = environment(&[], &["PATH".into()]).unwrap();
        assert_eq!(allowed, [("PATH".to_owned(), path)]);
        let given = environment(&["PATH=x".into()], &["PATH".into()]).unwrap();
        assert_eq!(given, [("PATH".to_owned(), "x".to_owned())]);
        assert!(environment(&["NOVALUE".into()], &[]).is_err());
        assert!(environment(&["=x".into()], &[]).is_err());
    }
}
