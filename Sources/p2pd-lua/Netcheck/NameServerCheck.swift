import NIOCore
import P2PDNames
import P2PDNet

/// Whether a name server answers: it is asked for a name that nobody has to have.
enum NameServerCheck {
  static func run(_ url: ServerURL, caFile: String?, patience: TimeAmount, on loop: any EventLoop)
    -> EventLoopFuture<ServerFinding>
  {
    let name = url.description
    var conf = NameClientConf()
    (conf.caFile, conf.patience) = (caFile, patience)
    let server = NameServerURL(isTLS: url.scheme == .https, host: url.host, port: url.port)
    do throws(NetError) {
      let asked = try PeerName(label: "netcheck", tld: url.tld ?? PeerName.defaultTLD)
      let client = NameClient(sets: [try NameSet(tld: asked.tld, servers: [server])], conf: conf, on: loop)
      return client.lookup(asked, waitForAll: true).map { answer in
        finding(name, answer)
      }.recover { ServerFinding(name, failed: NetError($0, "ask the name server")) }.always { _ in client.close() }
    } catch {
      return loop.makeSucceededFuture(ServerFinding(name, failed: error))
    }
  }

  private static func finding(_ name: String, _ answer: NameAnswer) -> ServerFinding {
    guard let reply = answer.replies.first else { return ServerFinding(name, .failed) }
    switch reply.word {
    case .record, .nothing:
      var finding = ServerFinding(name, .answered)
      finding.setup = reply.took
      return finding
    case .failed(let error): return ServerFinding(name, failed: error)
    case .pending: return ServerFinding(name, .silent)
    }
  }
}
