import NIOCore
import P2PDNet

/// One change of a name on its way: signs and sends what ``PushQuorum`` decides. It lives until every server has answered
/// or run out of time.
final class PushRun {
  private let client: NameClient
  private let set: NameSet
  private let owner: NameOwner
  private let value: String
  /// Seconds.
  private let lifetime: UInt64
  private var quorum: PushQuorum
  private var records: [Int: NameRecord] = [:]
  private let done: (Result<NameRecord, NetError>) -> Void

  init(
    _ client: NameClient, _ set: NameSet, _ name: PeerName, value: String, as owner: NameOwner, lifetime: UInt64,
    after sequence: UInt64, _ done: @escaping (Result<NameRecord, NetError>) -> Void
  ) {
    (self.client, self.set, self.owner, self.value, self.lifetime, self.done) = (
      client, set, owner, value, lifetime, done
    )
    quorum = PushQuorum(
      name, servers: set.servers.count, majority: set.majority, after: sequence, isDeletion: value.isEmpty)
  }

  func start() { perform(quorum.start()) }

  private func perform(_ actions: [PushQuorum.Action]) {
    for action in actions {
      switch action {
      case .send(let sequence, let round): send(sequence, round)
      case .finish(let round):
        // The rounds that end well have a record: it was sent.
        if let record = records[round] { done(.success(record)) }
      case .fail(let error): done(.failure(error))
      case .withdraw(let servers, let sequence): withdraw(servers, sequence)
      }
    }
  }

  private func send(_ sequence: UInt64, _ round: Int) {
    do throws(NetError) {
      let record = try sign(value, sequence)
      records[round] = record
      for (index, server) in set.servers.enumerated() {
        client.ask(server, NamesAPI.push(record, at: server)) { self.answered(index, round, record, $0) }
      }
    } catch {
      done(.failure(error))
    }
  }

  private func answered(_ index: Int, _ round: Int, _ record: NameRecord, _ result: Result<HTTPAnswer, NetError>) {
    let answer: PushQuorum.Answer =
      switch result {
      case .success(let answer): NamesAPI.read(push: answer, of: record, at: set.servers[index])
      case .failure(let error): .failed(error)
      }
    perform(quorum.handle(answer, from: index, round: round))
  }

  private func withdraw(_ servers: [Int], _ sequence: UInt64) {
    guard let tombstone = try? sign("", sequence) else { return }
    client.logger?.debug("a push that fell short is taken back", metadata: ["name": "\(tombstone.name)"])
    for server in servers.map({ set.servers[$0] }) {
      client.ask(server, NamesAPI.push(tombstone, at: server)) { _ in }
    }
  }

  private func sign(_ value: String, _ sequence: UInt64) throws(NetError) -> NameRecord {
    try NameRecord.sign(
      name: quorum.name, value: value, sequence: sequence, expires: client.now + lifetime, as: owner)
  }
}
