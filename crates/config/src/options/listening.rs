//! Options: listeners.

use super::{Arg, Category, Given, OptionDef};
use crate::draft::{Draft, Socket};
use crate::settings::Protocol;
use crate::values::{self, Parsed, Refusal};

const ADDRESS: Arg = Arg::Required("ADDRESS");

pub(super) const CATEGORY: Category = Category {
    word: "listening",
    title: "Listening",
    intro: "ADDRESS is host:port, :port (all IPv4 interfaces), [ipv6]:port, /path/to.sock, @abstract or fd://N. Port 0 lets the kernel choose. Listeners are numbered in order of appearance.",
    options: OPTIONS,
};

const OPTIONS: &[OptionDef] = &[
    OptionDef::set("http-socket", ADDRESS, http, "listen for HTTP/1.1")
        .aliases(&["http", "http11-socket", "httprouter"])
        .repeatable()
        .details("Served by the workers themselves, with keep-alive; there is no router process. uWSGI's http and http11-socket are the same here."),
    OptionDef::set("socket", ADDRESS, socket, "listen for the protocol chosen with --protocol")
        .short('s')
        .repeatable()
        .details("The usual listener behind nginx's uwsgi_pass."),
    OptionDef::set("uwsgi-socket", ADDRESS, uwsgi, "listen for the uwsgi protocol").repeatable(),
    OptionDef::set("protocol", Arg::Required("NAME"), protocol, "protocol of --socket: uwsgi or http")
        .aliases(&["socket-protocol"])
        .default_value("uwsgi"),
    OptionDef::set("http-socket-modifier1", Arg::Required("N"), http_modifier, "modifier of requests that come by HTTP: 9 is CGI")
        .aliases(&["http-modifier1"])
        .default_value("0")
        .details("In the uwsgi protocol each request brings its own."),
    OptionDef::set("listen", Arg::Required("N"), listen, "backlog of each listener")
        .short('l')
        .default_value("100")
        .details("Refused when it is above the kernel's net.core.somaxconn, which would silently cut it."),
    OptionDef::set("chmod-socket", Arg::Optional("MODE"), chmod, "mode of UNIX sockets, 666 without a value")
        .aliases(&["chmod"])
        .short('C')
        .details("Three octal digits. Without the option the umask decides."),
    OptionDef::switch("reuse-port", |draft, on, _| draft.settings.reuse_port = on, "set SO_REUSEPORT on TCP listeners"),
    OptionDef::switch("no-defer-accept", |draft, on, _| draft.settings.defer_accept = !on, "do not set TCP_DEFER_ACCEPT")
        .details("With it the kernel hands over a connection when its first bytes are there. Switch it off for clients that wait for the server to speak, or for health checks that only connect."),
    OptionDef::switch("so-keepalive", |draft, on, _| draft.settings.so_keepalive = on, "set SO_KEEPALIVE on connections"),
    OptionDef::switch("tcp-nodelay", |draft, on, _| draft.settings.tcp_nodelay = on, "set TCP_NODELAY on connections").default_value("true"),
];

fn http(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    add(draft, given, Some(Protocol::Http))
}

fn uwsgi(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    add(draft, given, Some(Protocol::Uwsgi))
}

fn socket(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    add(draft, given, None)
}

fn add(draft: &mut Draft<'_>, given: &Given<'_>, protocol: Option<Protocol>) -> Parsed<()> {
    let address = values::address(given.value)?;
    draft.sockets.push(Socket {
        address,
        protocol,
        name: given.name.to_owned(),
        value: given.value.to_owned(),
        origin: given.origin.clone(),
    });
    Ok(())
}

fn protocol(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.protocol = match given.value {
        "uwsgi" => Protocol::Uwsgi,
        "http" | "http11" => Protocol::Http,
        "fastcgi" | "fastcgi-nph" | "scgi" | "scgi-nph" | "raw" | "puwsgi" | "https" | "suwsgi" => {
            return Err(Refusal::new(
                "this protocol is not in this version of greenloom",
                "speak http or uwsgi to it, for example with nginx's uwsgi_pass or proxy_pass",
            ));
        }
        _ => return Err(Refusal::new("no such protocol", "write uwsgi or http")),
    };
    Ok(())
}

/// 30 is 0 with another way to cut `SCRIPT_NAME`, which nobody needs: mounts always cut it.
fn http_modifier(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.http_modifier1 = match given.value {
        "9" => crate::settings::CGI_MODIFIER,
        text if text == "30" || values::is_off(text) => 0,
        _ => {
            return Err(Refusal::new(
                "greenloom has no part with this modifier",
                "write 9 for CGI, or 0 for the application",
            ));
        }
    };
    Ok(())
}

fn listen(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.listen_backlog = values::count32(given.value, 1, 0x7fff_ffff)?;
    let system_max = draft.world.read("/proc/sys/net/core/somaxconn").unwrap_or_default();
    let system_max = String::from_utf8_lossy(&system_max).trim().parse().unwrap_or(u32::MAX);
    if draft.settings.listen_backlog > system_max {
        return Err(Refusal::new(
            format!("listen queue size is greater than the system max net.core.somaxconn ({system_max})"),
            format!(
                "write {system_max} or less, or raise it with sysctl -w net.core.somaxconn={}",
                given.value
            ),
        ));
    }
    Ok(())
}

fn chmod(draft: &mut Draft<'_>, given: &Given<'_>) -> Parsed<()> {
    draft.settings.chmod_socket = match given.value {
        "" | "true" => Some(0o666),
        text if text.eq_ignore_ascii_case("false") => None,
        text => Some(values::mode(text)?),
    };
    Ok(())
}
