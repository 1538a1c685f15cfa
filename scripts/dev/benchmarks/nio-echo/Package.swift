// swift-tools-version:6.0
import PackageDescription

// A package of its own, so that the program's own manifest does not carry what only the bench needs.
let package = Package(
  name: "nio-echo",
  dependencies: [
    .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0")
  ],
  targets: [
    .executableTarget(
      name: "nio-echo",
      dependencies: [
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ])
  ]
)
