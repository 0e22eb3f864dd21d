// Classifies photos on Android as run.py does on a computer; the constants are those of bundle.json.
//
// Copy the model and labels.txt into app/src/main/assets, and name the runtime in app/build.gradle.kts:
//     implementation("com.google.ai.edge.litert:litert:1.4.0")

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Color
import java.io.Closeable
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.exp
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter

private const val MODEL = "int8.tflite"
private const val CENTRAL_PART = 0.875
private val BACKGROUND = floatArrayOf(255.0f, 255.0f, 255.0f)
private val MEAN = floatArrayOf(0.0f)
private val STD = floatArrayOf(1.0f)
private val LUMA = floatArrayOf(0.299f, 0.587f, 0.114f)
private const val LOGITS = true

/**
 * Classifies photos:
 *
 *     // ImageDecoder turns photos upright by their EXIF orientation; BitmapFactory does not.
 *     val photo = ImageDecoder.decodeBitmap(ImageDecoder.createSource(contentResolver, uri)) { decoder, _, _ ->
 *         decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE
 *     }
 *     Classifier(context).use { for ((name, probability) in it.classify(photo).take(3)) println("$name $probability") }
 */
class Classifier(context: Context) : Closeable {
    private val interpreter: Interpreter
    private val labels = context.assets.open("labels.txt").bufferedReader().use { it.readLines() }

    init {
        val bytes = context.assets.open(MODEL).use { it.readBytes() }
        interpreter = Interpreter(ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder()).put(bytes))
    }

    /** Names and probabilities of all classes, the most probable first. */
    fun classify(photo: Bitmap): List<Pair<String, Float>> {
        val input = interpreter.getInputTensor(0)
        val output = interpreter.getOutputTensor(0)
        val (_, height, width, channels) = input.shape().toList()
        val inputs = ByteBuffer.allocateDirect(input.numBytes()).order(ByteOrder.nativeOrder())
        val outputs = ByteBuffer.allocateDirect(output.numBytes()).order(ByteOrder.nativeOrder())
        val pixels = prepare(photo, height, width)
        for (start in pixels.indices step 3) {
            val colours = pixels.sliceArray(start until start + 3)
            val grey = colours[0] * LUMA[0] + colours[1] * LUMA[1] + colours[2] * LUMA[2]
            for (channel in 0 until channels) {
                val level = Math.rint((if (channels == 1) grey else colours[channel]).toDouble()).toFloat()
                val value = (level - MEAN[channel % MEAN.size]) / STD[channel % STD.size]
                if (input.dataType() == DataType.FLOAT32) {
                    inputs.putFloat(value)
                } else {
                    val scale = input.quantizationParams()
                    val quantised = Math.rint((value / scale.scale).toDouble()).toInt() + scale.zeroPoint
                    val low = if (input.dataType() == DataType.UINT8) 0 else -128
                    inputs.put(max(low, min(low + 255, quantised)).toByte())
                }
            }
        }
        inputs.rewind()
        interpreter.run(inputs, outputs)
        outputs.rewind()
        val scores = labels.map {
            if (output.dataType() == DataType.FLOAT32) {
                outputs.getFloat()
            } else {
                val quantised = outputs.get().toInt()
                val scale = output.quantizationParams()
                val positive = if (output.dataType() == DataType.UINT8) quantised and 255 else quantised
                (positive - scale.zeroPoint) * scale.scale
            }
        }
        return labels.zip(if (LOGITS) softmax(scores) else scores).sortedByDescending { it.second }
    }

    private fun softmax(logits: List<Float>): List<Float> {
        val largest = logits.fold(Float.NEGATIVE_INFINITY) { a, b -> max(a, b) }
        val exponentials = logits.map { exp(it - largest) }
        val total = exponentials.sum()
        return exponentials.map { it / total }
    }

    /** The central part of a photo, resized: levels 0..255 of red, green and blue [height * width * 3]. */
    private fun prepare(photo: Bitmap, height: Int, width: Int): FloatArray {
        val part = if (photo.height == height && photo.width == width) 1.0 else CENTRAL_PART
        val rows = Math.rint(part * min(photo.height.toDouble(), photo.width * height / width.toDouble())).toInt()
            .coerceAtLeast(1)
        val columns = Math.rint(part * min(photo.width.toDouble(), photo.height * width / height.toDouble())).toInt()
            .coerceAtLeast(1)
        val left = (photo.width - columns) / 2
        val top = (photo.height - rows) / 2
        val antialias = rows > 2 * height || columns > 2 * width
        val down = weights(rows, height, antialias)
        val across = weights(columns, width, antialias)
        val line = IntArray(columns)
        val result = FloatArray(height * width * 3)
        for (y in 0 until rows) {
            photo.getPixels(line, 0, columns, left, top + y, columns, 1)
            val thin = FloatArray(width * 3)
            for (x in 0 until width) {
                across[x].values.forEachIndexed { number, weight ->
                    val pixel = line[across[x].first + number]
                    val opaque = Color.alpha(pixel) / 255f
                    thin[3 * x] += weight * (BACKGROUND[0] + opaque * (Color.red(pixel) - BACKGROUND[0]))
                    thin[3 * x + 1] += weight * (BACKGROUND[1] + opaque * (Color.green(pixel) - BACKGROUND[1]))
                    thin[3 * x + 2] += weight * (BACKGROUND[2] + opaque * (Color.blue(pixel) - BACKGROUND[2]))
                }
            }
            down.forEachIndexed { row, taps ->
                val weight = taps.values.getOrElse(y - taps.first) { 0f }
                if (weight > 0) for (i in thin.indices) result[row * width * 3 + i] += weight * thin[i]
            }
        }
        return result
    }

    private class Weights(val first: Int, val values: List<Float>)

    /** Bilinear weights of the pixels of a line for each pixel of its resized line. */
    private fun weights(size: Int, newSize: Int, antialias: Boolean): List<Weights> {
        val scale = size.toDouble() / newSize
        val reach = if (antialias) max(1.0, scale) else 1.0
        return List(newSize) { place ->
            val centre = (place + 0.5) * scale - 0.5
            val first = max(0, ceil(centre - reach).toInt())
            val last = min(size - 1, floor(centre + reach).toInt())
            val values = (first..last).map { 1 - abs(it - centre) / reach }
            Weights(first, values.map { (it / values.sum()).toFloat() })
        }
    }

    override fun close() = interpreter.close()
}
