@testable import P2PDNet

/// Files and environment variables that name servers: whatever is read can be written and read again, and what is shown
/// to people holds no secret.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzServers(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let text = String(decoding: UnsafeBufferPointer(start: data, count: size), as: UTF8.self)
  if let list = try? ServerList(text: text, file: "f") {
    precondition((try? ServerList(text: list.text, file: "again")) == list, "a list changes when it is written")
    for url in list.all {
      precondition(url.port != 0 && (1...253).contains(url.host.utf8.count), "a server nowhere")
      let shown = url.description
      if let secret = url.secret, secret.utf8.count > 16 { precondition(!shown.contains(secret), "a secret is shown") }
    }
  }
  _ = try? ServerList().overridden(by: ["P2PD_STUN": text])
  return 0
}
