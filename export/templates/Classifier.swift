// Classifies photos on iOS as run.py does on a computer; the constants are those of bundle.json.
//
// Add the model and labels.txt to the app's target, and the runtime to the Podfile: pod 'TensorFlowLiteSwift'

import TensorFlowLite
import UIKit

private let model = "int8.tflite"
private let centralPart = 0.875
private let background: [Float] = [255.0, 255.0, 255.0]
private let mean: [Float] = [0.0]
private let std: [Float] = [1.0]
private let luma: [Float] = [0.299, 0.587, 0.114]
private let hasLogits = true

/// Classifies photos:
///
///     let classifier = try Classifier()
///     for (name, probability) in try classifier.classify(photo).prefix(3) { print(name, probability) }
final class Classifier {
    private let interpreter: Interpreter
    private let labels: [String]

    init(bundle: Bundle = .main) throws {
        interpreter = try Interpreter(modelPath: bundle.bundleURL.appendingPathComponent(model).path)
        try interpreter.allocateTensors()
        let text = try String(contentsOf: bundle.bundleURL.appendingPathComponent("labels.txt"), encoding: .utf8)
        labels = text.components(separatedBy: "\n").dropLast()
    }

    /// Names and probabilities of all classes, the most probable first.
    func classify(_ photo: UIImage) throws -> [(String, Float)] {
        let input = try interpreter.input(at: 0)
        let shape = input.shape.dimensions
        let (height, width, channels) = (shape[1], shape[2], shape[3])
        let pixels = prepare(photo, height: height, width: width)
        var values: [Float] = []
        for start in stride(from: 0, to: pixels.count, by: 3) {
            let grey = pixels[start] * luma[0] + pixels[start + 1] * luma[1] + pixels[start + 2] * luma[2]
            for channel in 0..<channels {
                let level = (channels == 1 ? grey : pixels[start + channel]).rounded(.toNearestOrEven)
                values.append((level - mean[channel % mean.count]) / std[channel % std.count])
            }
        }
        // The interpreter takes float32 and uint8; it has no int8.
        if let scale = input.quantizationParameters, input.dataType == .uInt8 {
            let bytes = values.map { value -> UInt8 in
                let quantised = (value / scale.scale).rounded(.toNearestOrEven) + Float(scale.zeroPoint)
                return UInt8(max(0, min(255, quantised)))
            }
            try interpreter.copy(Data(bytes), toInputAt: 0)
        } else {
            try interpreter.copy(values.withUnsafeBufferPointer { Data(buffer: $0) }, toInputAt: 0)
        }
        try interpreter.invoke()
        let scores = self.scores(try interpreter.output(at: 0))
        return zip(labels, hasLogits ? softmax(scores) : scores).sorted { $0.1 > $1.1 }
    }

    private func softmax(_ logits: [Float]) -> [Float] {
        let largest = logits.max() ?? 0
        let exponentials = logits.map { exp($0 - largest) }
        let total = exponentials.reduce(0, +)
        return exponentials.map { $0 / total }
    }

    private func scores(_ output: Tensor) -> [Float] {
        if let scale = output.quantizationParameters, output.dataType == .uInt8 {
            return output.data.map { Float(Int($0) - scale.zeroPoint) * scale.scale }
        }
        return output.data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    }

    /// The central part of a photo, resized: levels 0..255 of red, green and blue [height * width * 3].
    private func prepare(_ photo: UIImage, height: Int, width: Int) -> [Float] {
        let (bytes, photoHeight, photoWidth) = draw(photo)
        let part = photoHeight == height && photoWidth == width ? 1.0 : centralPart
        let fullRows = min(Double(photoHeight), Double(photoWidth * height) / Double(width))
        let fullColumns = min(Double(photoWidth), Double(photoHeight * width) / Double(height))
        let rows = max(1, Int((part * fullRows).rounded(.toNearestOrEven)))
        let columns = max(1, Int((part * fullColumns).rounded(.toNearestOrEven)))
        let (left, top) = ((photoWidth - columns) / 2, (photoHeight - rows) / 2)
        let antialias = rows > 2 * height || columns > 2 * width
        let down = weights(rows, height, antialias)
        let across = weights(columns, width, antialias)
        var result = [Float](repeating: 0, count: height * width * 3)
        for y in 0..<rows {
            var thin = [Float](repeating: 0, count: width * 3)
            for x in 0..<width {
                for (number, weight) in across[x].values.enumerated() {
                    let pixel = 4 * ((top + y) * photoWidth + left + across[x].first + number)
                    for channel in 0..<3 { thin[3 * x + channel] += weight * Float(bytes[pixel + channel]) }
                }
            }
            for row in 0..<height where down[row].values.indices.contains(y - down[row].first) {
                let weight = down[row].values[y - down[row].first]
                for i in 0..<thin.count { result[row * width * 3 + i] += weight * thin[i] }
            }
        }
        return result
    }

    /// Draws a photo upright on the background: bytes of red, green, blue and an unused one, height and width.
    private func draw(_ photo: UIImage) -> ([UInt8], Int, Int) {
        let width = Int((photo.size.width * photo.scale).rounded())
        let height = Int((photo.size.height * photo.scale).rounded())
        let pixel = (background + [255]).map { UInt8($0) }
        var bytes = [UInt8](repeating: 255, count: height * width * 4)
        for i in 0..<bytes.count { bytes[i] = pixel[i % 4] }
        bytes.withUnsafeMutableBytes { memory in
            guard let space = CGColorSpace(name: CGColorSpace.sRGB),
                  let context = CGContext(data: memory.baseAddress, width: width, height: height, bitsPerComponent: 8,
                                          bytesPerRow: 4 * width, space: space,
                                          bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue) else { return }
            context.translateBy(x: 0, y: CGFloat(height))
            context.scaleBy(x: 1, y: -1)
            UIGraphicsPushContext(context)
            photo.draw(in: CGRect(x: 0, y: 0, width: width, height: height))
            UIGraphicsPopContext()
        }
        return (bytes, height, width)
    }

    /// Bilinear weights of the pixels of a line for each pixel of its resized line.
    private func weights(_ size: Int, _ newSize: Int, _ antialias: Bool) -> [(first: Int, values: [Float])] {
        let scale = Double(size) / Double(newSize)
        let reach = antialias ? max(1, scale) : 1
        return (0..<newSize).map { place in
            let centre = (Double(place) + 0.5) * scale - 0.5
            let first = max(0, Int((centre - reach).rounded(.up)))
            let last = min(size - 1, Int((centre + reach).rounded(.down)))
            let values = (first...last).map { 1 - abs(Double($0) - centre) / reach }
            let total = values.reduce(0, +)
            return (first, values.map { Float($0 / total) })
        }
    }
}
