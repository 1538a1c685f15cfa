@testable import P2PDScript

/// What read(2) gives of an inotify descriptor. Nothing in it may trap, and no event is made up.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzInotify(_ data: UnsafePointer<UInt8>, _ size: Int) -> Int32 {
  let events = InotifyCodec.events(in: UnsafeRawBufferPointer(start: data, count: size))
  precondition(events.count * 16 <= size, "more events than bytes")
  for event in events {
    precondition(event.name.utf8.count <= 3 * size, "a name longer than the bytes")
    precondition(!event.name.utf8.contains(0), "a zero in a name")
  }
  return 0
}
