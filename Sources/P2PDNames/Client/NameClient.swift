import Logging
import NIOCore
import P2PDNet

/// Asks and tells the name servers, over HTTP on connections that are kept a while.
///
/// The codec is the house's ``HTTPReader``, which reads answers of routers too, and not NIOHTTP1: pipes here are no NIO
/// channels, so that the whole client runs in a network of memory and virtual time, and NIO's decoder needs a channel to
/// live in. A client needs five lines of request and one bounded answer, which is fuzzed.
///
/// Confined to its event loop.
public final class NameClient: @unchecked Sendable {
  public let sets: [NameSet]
  let loop: any EventLoop
  let logger: Logger?
  private let conf: NameClientConf
  private var links: [NameServerURL: NameServerLink] = [:]
  private var encrypted: EventLoopFuture<PipeConf>?
  private var running = 0
  private var isClosed = false

  public init(sets: [NameSet], conf: NameClientConf = NameClientConf(), on loop: any EventLoop, logger: Logger? = nil) {
    (self.sets, self.conf, self.loop, self.logger) = (sets, conf, loop, logger)
  }

  /// The set that knows the names of this TLD.
  public func set(of tld: String) -> NameSet? { sets.first { $0.tld == tld } }

  /// Asks all servers of the name's set. The future succeeds with what came out, good or bad, and fails only where
  /// nobody could be asked: `bad_name` for an unknown TLD or a name with inner dots, `limit`, `closed`.
  /// - Parameter waitForAll: answer when every server has spoken or its time is over, not at the first majority.
  public func lookup(_ name: PeerName, waitForAll: Bool = false) -> EventLoopFuture<NameAnswer> {
    begin("look up \(name)", name) { set, promise in
      LookupRun(self, set, name, waitForAll: waitForAll) { answer in
        // Of a client that was closed every server "failed".
        if self.isClosed { promise.fail(self.closed("look up \(name)")) } else { promise.succeed(answer) }
      }.start()
    }
  }

  /// Registers or changes a name: succeeds with the record that a majority accepted.
  /// - Parameters:
  ///   - value: the node's address, 1 to 1024 bytes.
  ///   - lifetime: how long it lasts without being pushed again, at most 7 days.
  ///   - sequence: the last sequence number this owner used for the name, 0 if it does not know.
  /// Fails with `taken`, `no_quorum`, `unreachable`, `limit`, `too_large`, `bad_name`, `bad_record`, `closed`.
  public func push(
    _ name: PeerName, value: String, as owner: NameOwner, lifetime: TimeAmount = .hours(7 * 24),
    after sequence: UInt64 = 0
  ) -> EventLoopFuture<NameRecord> {
    guard !value.isEmpty else {
      return loop.makeFailedFuture(
        NetError(.badRecord, "register \(name)", cause: "its value is empty", remedy: "Delete the name instead."))
    }
    let seconds = UInt64(min(max(1, lifetime.nanoseconds / 1_000_000_000), Int64(NameRecord.longestLife)))
    return change("register \(name)", name, value, owner, seconds, sequence)
  }

  /// Gives a name up: succeeds with the tombstone that a majority accepted. Fails as
  /// ``push(_:value:as:lifetime:after:)``, and with `not_found` where the servers do not have it.
  public func delete(_ name: PeerName, as owner: NameOwner, after sequence: UInt64 = 0) -> EventLoopFuture<NameRecord> {
    // As long as any record of it may last: before that none of them can be played back.
    change("delete \(name)", name, "", owner, NameRecord.longestLife, sequence)
  }

  /// Gives up what is under way (`closed`) and closes every connection. Twice is harmless.
  public func close() {
    isClosed = true
    let open = links.values
    links = [:]
    for link in open { link.close() }
  }

  private func change(
    _ what: String, _ name: PeerName, _ value: String, _ owner: NameOwner, _ lifetime: UInt64, _ sequence: UInt64
  ) -> EventLoopFuture<NameRecord> {
    begin(what, name) { set, promise in
      PushRun(self, set, name, value: value, as: owner, lifetime: lifetime, after: sequence) { result in
        switch result {
        case .success(let record): promise.succeed(record)
        case .failure(let error): promise.fail(self.isClosed ? self.closed(what) : error)
        }
      }.start()
    }
  }

  private func begin<T: Sendable>(
    _ what: String, _ name: PeerName, _ start: (NameSet, EventLoopPromise<T>) -> Void
  ) -> EventLoopFuture<T> {
    if isClosed { return loop.makeFailedFuture(closed(what)) }
    guard name.isRegistrable else {
      return loop.makeFailedFuture(
        NetError(.badName, what, cause: "name servers keep names of one label and an ending, without an inner dot"))
    }
    guard let set = set(of: name.tld) else {
      let known = sets.map { "." + $0.tld }.joined(separator: ", ")
      return loop.makeFailedFuture(
        NetError(
          .badName, what,
          cause: sets.isEmpty ? "no name servers are configured" : "no name servers are known for .\(name.tld)",
          remedy: "Name the servers of .\(name.tld) in the configuration"
            + (known.isEmpty ? "." : "; known are \(known).")
        ))
    }
    guard running < Self.mostRuns else {
      return loop.makeFailedFuture(NetError(.limit, what, cause: "\(running) names are being asked for already"))
    }
    running += 1
    let promise = loop.makePromise(of: T.self)
    promise.futureResult.assumeIsolated().whenComplete { _ in self.running -= 1 }
    start(set, promise)
    return promise.futureResult
  }

  private func closed(_ what: String) -> NetError { NetError(.closed, what, cause: "the client was closed") }

  // MARK: For runs

  /// Seconds since 1970.
  var now: UInt64 { min(conf.clock(), NameRecord.highestSequence - NameRecord.longestLife) }

  func ask(_ server: NameServerURL, _ request: [UInt8], _ done: @escaping (Result<HTTPAnswer, NetError>) -> Void) {
    guard !isClosed else {
      return loop.assumeIsolated().execute { done(.failure(self.closed("ask \(server)"))) }
    }
    let link = links[server] ?? NameServerLink(server, on: loop) { [unowned self] in settings($0) }
    links[server] = link
    link.ask(request, patience: conf.patience, done)
  }

  private func settings(_ server: NameServerURL) -> EventLoopFuture<PipeConf> {
    var plain = PipeConf()
    plain.conTimeout = conf.patience
    plain.dnsTimeout = conf.patience
    guard server.isTLS else { return loop.makeSucceededFuture(plain) }
    if let encrypted { return encrypted }
    let (loop, file, ready) = (loop, conf.caFile, plain)
    let read = loop.run {
      var conf = ready
      conf.tls = try await loop.offload { try TLSSetup.client(caFile: file, applicationProtocols: ["http/1.1"]) }
      return conf
    }
    encrypted = read
    // A file that is not there may be there at the next try.
    read.assumeIsolated().whenFailure { [weak self] _ in self?.encrypted = nil }
    return read
  }

  /// Names asked for at once by one node; each costs a connection and a timer at every server.
  private static let mostRuns = 64
}
