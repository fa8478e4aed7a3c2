//! What the job may touch: `--allow-…`, `--env` and `--secret`, as grants and capabilities; and what a host offers of itself.

use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;

use ingle_cluster::{AccessSpec, AllowedNet, Offer, Paths, S3Options, SecretValue};
use ingle_core::net::{Cidr, Reachable};
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
        secrets: secrets(&options.secret, |name| std::env::var_os(name))?,
        allow_read: options.allow_read.clone(),
        allow_write: options.allow_write.clone(),
        working_dir,
        files: shipped(&options.files)?,
        s3: s3(options, settings, |name| std::env::var(name).ok())?,
        net: net(&options.allow_net)?,
        cluster: Vec::new(),
        clock: settings.clock()?,
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

/// One secret, in bytes; and all of them.
const MAX_SECRET: usize = 64 << 10;
const MAX_SECRETS: usize = 512 << 10;

/// What is given by `--secret`: never by the command line itself, which others can see.
fn secrets(
    given: &[String],
    variable: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<Vec<(String, SecretValue)>, Failure> {
    let mut secrets: Vec<(String, SecretValue)> = Vec::new();
    let mut total = 0;
    for text in given {
        let (name, source) = match text.split_once('=') {
            None => (text.as_str(), None),
            Some((name, source)) => (name, Some(source)),
        };
        // What is behind the `=` is perhaps the secret.
        let bad = |why: &str| Failure::usage(format!("--secret {name}: {why}"));
        if name.is_empty() || name.contains('\0') {
            return Err(bad("write --secret NAME, or --secret NAME=@FILE"));
        }
        if secrets.iter().any(|(known, _)| known == name) {
            return Err(bad("it is given twice"));
        }
        let value = match source {
            None => {
                let value = variable(name).ok_or_else(|| {
                    bad("there is no variable of that name here; set it, or write NAME=@FILE")
                })?;
                value.into_string().map_err(|_| bad("its value isn't UTF-8"))?
            }
            Some(source) => {
                let file = source.strip_prefix('@').filter(|file| !file.is_empty());
                let file = file.ok_or_else(|| {
                    bad("its value doesn't belong on the command line, which others can see: put it into a variable of that \
                         name, or into a file, and write NAME=@FILE")
                })?;
                secret_of(file).map_err(|why| bad(&format!("{file}: {why}")))?
            }
        };
        if value.contains('\0') {
            return Err(bad("its value holds a zero byte"));
        }
        total += value.len();
        if value.len() > MAX_SECRET || total > MAX_SECRETS {
            return Err(bad(
                "a secret may have 64 KiB, and all together 512 KiB; use --files for more",
            ));
        }
        secrets.push((name.to_owned(), SecretValue(value)));
    }
    Ok(secrets)
}

/// A file's text without the end of its last line, which editors add.
fn secret_of(file: &str) -> Result<String, String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(|e| e.to_string())?;
    opened.take(MAX_SECRET as u64 + 3).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it isn't UTF-8")?;
    let text = text.strip_suffix('\n').map_or(&*text, |t| t.strip_suffix('\r').unwrap_or(t));
    Ok(text.to_owned())
}

/// What this machine has for a driver, or a job, that runs here: everything, and volumes by their names.
pub fn offer(options: &Options) -> Result<Offer, Failure> {
    let mut offer = Offer::default();
    for text in &options.volume {
        let bad = |why: String| Failure::usage(format!("--volume {text}: {why}"));
        let absolute = match text.split_once('=') {
            Some((name, path)) if !path.is_empty() => {
                let path = std::path::absolute(path).map_err(|e| bad(e.to_string()))?;
                let path = path.to_str().ok_or_else(|| bad("it isn't UTF-8".into()))?;
                format!("{name}={path}")
            }
            _ => text.clone(),
        };
        offer.add_volume(&absolute).map_err(bad)?;
    }
    Ok(offer)
}

/// What a worker's host has for jobs, by `--grants`, `--net` and `--volume`.
pub fn worker_offer(
    grants: &[String],
    net: &[String],
    volumes: &[String],
) -> Result<Offer, String> {
    let paths = match grants {
        [] => Paths::Any,
        [one] if one == "any" => Paths::Any,
        [one] if one == "none" => Paths::Only(Vec::new()),
        paths => {
            let paths: Vec<_> = paths.iter().map(PathBuf::from).collect();
            if let Some(path) = paths.iter().find(|path| !path.is_absolute()) {
                return Err(format!(
                    "--grants {}: write absolute paths, or `none` or `any` alone",
                    path.display()
                ));
            }
            Paths::Only(paths)
        }
    };
    let net = match net {
        [] => Reachable::Any,
        net => Reachable::parse(net).map_err(|why| format!("--net {why}"))?,
    };
    let mut offer = Offer { paths, net, ..Offer::default() };
    for text in volumes {
        offer.add_volume(text).map_err(|why| format!("--volume {text}: {why}"))?;
    }
    Ok(offer)
}

/// What `--allow-net` grants. A name means for the job what it means now, and what it comes to mean later.
fn net(texts: &[String]) -> Result<Vec<AllowedNet>, Failure> {
    let mut allowed = Vec::new();
    for text in texts {
        let grant = NetGrant::parse(text).map_err(|why| {
            Failure::usage(format!("--allow-net {text}: {why}; write HOST, or HOST:PORT"))
        })?;
        let addresses = match grant.host_name() {
            Some(name) => look_up(name, text)?,
            None => Vec::new(),
        };
        allowed.push(AllowedNet { grant, addresses });
    }
    for AllowedNet { grant, addresses } in &allowed {
        let Some(name) = grant.host_name() else { continue };
        let named = |ip: &IpAddr| {
            allowed.iter().any(|other| other.grant.host_name().is_none() && other.grant.covers(*ip))
        };
        let closed = |ip: &IpAddr| Cidr::of(*ip).special().filter(|_| !named(ip));
        if addresses.iter().all(|ip| closed(ip).is_some())
            && let Some((ip, what)) = addresses.iter().find_map(|ip| Some((ip, closed(ip)?)))
        {
            return Err(Failure::usage(format!(
                "--allow-net {grant}: {name} means {ip}, {what}, which no name opens; add --allow-net={ip} if that is what \
                 you want"
            )));
        }
    }
    Ok(allowed)
}

fn look_up(name: &str, text: &str) -> Result<Vec<IpAddr>, Failure> {
    let found = (name, 0).to_socket_addrs().map_err(|e| {
        let what = format!("--allow-net {text}: can't find the address of {name}: {e}");
        Failure::new(Code::Host, what)
    })?;
    let mut addresses: Vec<_> = found.map(|address| address.ip().to_canonical()).collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn allowed(texts: &[&str]) -> Result<Vec<AllowedNet>, Failure> {
        net(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn an_address_is_granted_as_it_is() {
        let all = allowed(&["127.0.0.1:8080", "10.0.0.0/8"]).unwrap();
        assert!(all.iter().all(|net| net.addresses.is_empty()), "{all:?}");
        let text = allowed(&["h:0"]).unwrap_err().text;
        assert!(text.contains("--allow-net h:0") && text.contains("HOST:PORT"), "{text}");
    }

    #[test]
    fn a_name_of_nothing_public_says_what_to_grant() {
        let text = allowed(&["localhost:80"]).unwrap_err().text;
        assert!(text.contains("no name opens; add --allow-net="), "{text}");
        let both = allowed(&["localhost:80", "127.0.0.0/8:80", "::1"]).unwrap();
        assert!(!both[0].addresses.is_empty());
    }

    #[test]
    fn secrets_come_from_variables_and_files_and_from_nowhere_else() {
        let given = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
            secrets(&texts, |name| (name == "TOKEN").then(|| "swordfish".into()))
        };
        let value = |text: &str| SecretValue(text.to_owned());
        let file = tempfile::NamedTempFile::new().unwrap();
        let from = format!("KEY=@{}", file.path().display());
        for (content, expected) in
            [("s3cret\n", "s3cret"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("", "")]
        {
            std::fs::write(file.path(), content).unwrap();
            let both = given(&["TOKEN", &from]).unwrap();
            assert_eq!(both[0], ("TOKEN".to_owned(), value("swordfish")));
            assert_eq!(both[1], ("KEY".to_owned(), value(expected)));
        }
        let text = given(&["TOKEN=swordfish"]).unwrap_err().text;
        assert!(text.contains("NAME=@FILE") && !text.contains("swordfish"), "{text}");
        std::fs::write(file.path(), vec![b'x'; MAX_SECRET + 1]).unwrap();
        assert!(given(&[&from]).unwrap_err().text.contains("64 KiB"));
        std::fs::write(file.path(), b"a\0b").unwrap();
        for bad in ["NONE", "", "=@x", "X=", "X=@", "X=@/nowhere/at/all", &from] {
            assert!(given(&[bad]).is_err(), "{bad}");
        }
        assert!(given(&["TOKEN", "TOKEN"]).is_err());
    }

    #[test]
    fn a_worker_offers_any_path_some_or_none() {
        let of = |grants: &[&str], volumes: &[&str]| {
            let own = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
            worker_offer(&own(grants), &[], &own(volumes))
        };
        assert_eq!(of(&[], &[]).unwrap(), Offer::default());
        assert_eq!(of(&["any"], &[]).unwrap().paths, Paths::Any);
        assert_eq!(of(&["none"], &[]).unwrap().paths, Paths::Only(Vec::new()));
        assert_eq!(
            of(&["/a", "/b"], &[]).unwrap().paths,
            Paths::Only(vec!["/a".into(), "/b".into()])
        );
        assert!(of(&["none", "/a"], &[]).is_err() && of(&["a"], &[]).is_err());
        assert!(of(&[], &["x"]).unwrap_err().contains("--volume x"));
        assert!(of(&[], &["x=/y:ro"]).unwrap().volumes["x"].read_only);
        assert_eq!(worker_offer(&[], &["none".into()], &[]).unwrap().net, Reachable::NONE);
        let name = worker_offer(&[], &["example.org".into()], &[]).unwrap_err();
        assert!(name.starts_with("--net example.org: write ADDRESS"), "{name}");
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
