package android.graphics

/** Android's Bitmap and Color as far as Classifier.kt uses them: pixels are integers 0xAARRGGBB. */
class Bitmap(val width: Int, val height: Int, private val pixels: IntArray) {
    fun getPixels(into: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {
        for (row in 0 until height) {
            pixels.copyInto(into, offset + row * stride, (y + row) * this.width + x, (y + row) * this.width + x + width)
        }
    }
}

object Color {
    fun alpha(color: Int) = color ushr 24
    fun red(color: Int) = (color shr 16) and 255
    fun green(color: Int) = (color shr 8) and 255
    fun blue(color: Int) = color and 255
}
