package android.content

import java.io.FileInputStream
import java.io.InputStream

/** Android's Context as far as Classifier.kt uses it: assets are the files of a folder. */
class Context(private val folder: String) {
    class Assets(private val folder: String) {
        fun open(name: String): InputStream = FileInputStream("$folder/$name")
    }

    val assets = Assets(folder)
}
