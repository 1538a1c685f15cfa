import NIOCore
import P2PDNet

/// One lookup on its way: performs what ``LookupQuorum`` decides. It lives until every server has answered or run out of
/// time, so that those who answer late are repaired too.
final class LookupRun {
  private let client: NameClient
  private let set: NameSet
  private let name: PeerName
  private var quorum: LookupQuorum
  private var replies: [ServerReply]
  private let done: (NameAnswer) -> Void
  private let began: NIODeadline

  init(_ client: NameClient, _ set: NameSet, _ name: PeerName, waitForAll: Bool, _ done: @escaping (NameAnswer) -> Void)
  {
    (self.client, self.set, self.name, self.done) = (client, set, name, done)
    quorum = LookupQuorum(name, servers: set.servers.count, majority: set.majority, waitsForAll: waitForAll)
    replies = set.servers.map { ServerReply(server: $0) }
    began = client.loop.now
  }

  func start() {
    for (index, server) in set.servers.enumerated() {
      client.ask(server, NamesAPI.lookup(name, at: server)) { self.answered(index, $0) }
    }
  }

  private func answered(_ index: Int, _ result: Result<HTTPAnswer, NetError>) {
    let event: LookupQuorum.Event =
      switch result {
      case .success(let answer): NamesAPI.read(lookup: answer, of: name, at: set.servers[index])
      case .failure(let error): .failed(error)
      }
    replies[index].took = client.loop.now - began
    replies[index].word =
      switch event {
      case .record(let record): .record(record)
      case .nothing: .nothing
      case .failed(let error): .failed(error)
      }
    var outcome: Result<NameRecord, NetError>?
    for action in quorum.handle(event, from: index, now: client.now) {
      switch action {
      case .finish(let result): outcome = result
      case .repair(let server, let record): repair(server, record)
      }
    }
    if let outcome { done(NameAnswer(name: name, result: outcome, replies: replies)) }
  }

  /// Nobody waits for what comes of it: the next lookup tries again.
  private func repair(_ index: Int, _ record: NameRecord) {
    let server = set.servers[index]
    replies[index].isRepaired = true
    client.logger?.debug("a name server is behind and gets the newest record", metadata: ["server": "\(server)"])
    client.ask(server, NamesAPI.push(record, at: server)) { _ in }
  }
}
