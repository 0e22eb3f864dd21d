import android.content.Context
import android.graphics.Bitmap
import java.io.DataInputStream
import java.io.File

/** Classifies the photo in the file `photo` (big-endian integers: width, height, 0xAARRGGBB...) of the working folder. */
fun main() {
    val photo = DataInputStream(File("photo").inputStream().buffered()).use {
        val width = it.readInt()
        val height = it.readInt()
        Bitmap(width, height, IntArray(width * height) { _ -> it.readInt() })
    }
    Classifier(Context(".")).use { for ((name, probability) in it.classify(photo)) println("$probability $name") }
}
