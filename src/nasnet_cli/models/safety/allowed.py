"""The TensorFlow operations that only compute.

Anything not listed is refused, including operations that TensorFlow adds later. Each was looked up
in TensorFlow 2.21's registry. Omitted on purpose, though they look harmless:
DecodeProtoV2, EncodeProto, FixedUnigramCandidateSampler, GenerateVocabRemapping, ImmutableConst
and LoadAndRemapMatrix read files that an attribute names; DebugIdentity and its kin write to an
address; XlaCallModule and the like run compiled code; Print and PrintV2 can write to files.
"""

from __future__ import annotations

_GROUPS = {
    "graph": """
        Assert CheckNumerics CheckNumericsV2 Const ControlTrigger EnsureShape FakeParam
        GuaranteeConst Identity IdentityN NoOp Placeholder PlaceholderV2 PlaceholderWithDefault
        PreventGradient RefIdentity Snapshot StopGradient""",
    "control flow": """
        Case Enter Exit For If LoopCond MapDefun Merge NextIteration PartitionedCall RefEnter
        RefExit RefMerge RefNextIteration RefSelect RefSwitch StatefulPartitionedCall
        StatelessCase StatelessIf StatelessWhile Switch SymbolicGradient While
        StackCloseV2 StackPopV2 StackPushV2 StackV2""",
    "variables": """
        Assign AssignAdd AssignAddVariableOp AssignSub AssignSubVariableOp AssignVariableOp
        CountUpTo DestroyResourceOp DestroyTemporaryVariable DisableCopyOnRead IsVariableInitialized
        ReadVariableOp ResourceCountUpTo ResourceGather ResourceGatherNd ResourceScatterAdd
        ResourceScatterDiv ResourceScatterMax ResourceScatterMin ResourceScatterMul
        ResourceScatterNdAdd ResourceScatterNdSub ResourceScatterNdUpdate ResourceScatterSub
        ResourceScatterUpdate ResourceStridedSliceAssign ScatterAdd ScatterDiv ScatterMax
        ScatterMin ScatterMul ScatterNdAdd ScatterNdSub ScatterNdUpdate ScatterSub ScatterUpdate
        TemporaryVariable VarHandleOp VarIsInitializedOp Variable VariableShape VariableV2""",
    "training": """
        ApplyAdadelta ApplyAdagrad ApplyAdam ApplyFtrl ApplyGradientDescent ApplyMomentum
        ApplyRMSProp ResourceApplyAdadelta ResourceApplyAdagrad ResourceApplyAdagradV2
        ResourceApplyAdaMax ResourceApplyAdam ResourceApplyAdamWithAmsgrad
        ResourceApplyCenteredRMSProp ResourceApplyFtrl ResourceApplyFtrlV2
        ResourceApplyGradientDescent ResourceApplyKerasMomentum ResourceApplyMomentum
        ResourceApplyRMSProp""",
    "tables in memory": """
        AnonymousHashTable AnonymousMutableDenseHashTable AnonymousMutableHashTable
        AnonymousMutableHashTableOfTensors HashTable HashTableV2 InitializeTable InitializeTableV2
        LookupTableExport LookupTableExportV2 LookupTableFind LookupTableFindV2 LookupTableImport
        LookupTableImportV2 LookupTableInsert LookupTableInsertV2 LookupTableRemoveV2
        LookupTableSize LookupTableSizeV2 MutableDenseHashTable MutableDenseHashTableV2
        MutableHashTable MutableHashTableOfTensors MutableHashTableOfTensorsV2 MutableHashTableV2
        """,
    "arrays": """
        BatchToSpace BatchToSpaceND Bitcast BroadcastArgs BroadcastGradientArgs BroadcastTo Cast
        Concat ConcatOffset ConcatV2 DataFormatDimMap DataFormatVecPermute DeepCopy DepthToSpace
        Diag DiagPart DynamicPartition DynamicStitch Empty ExpandDims ExtractImagePatches
        ExtractVolumePatches Fill Gather GatherNd GatherV2 InplaceAdd InplaceSub InplaceUpdate
        InvertPermutation ListDiff LowerBound MatrixBandPart MatrixDiag MatrixDiagPart
        MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag MatrixSetDiagV2
        MatrixSetDiagV3 MirrorPad MirrorPadGrad OneHot OnesLike Pack Pad PadV2 ParallelConcat
        ParallelDynamicStitch Range Rank Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd
        ScatterNdNonAliasingAdd Select SelectV2 Shape ShapeN Size Slice SpaceToBatch SpaceToBatchND
        SpaceToDepth Split SplitV Squeeze StridedSlice StridedSliceAssign StridedSliceGrad
        TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate
        TensorStridedSliceUpdate Tile TileGrad Transpose ConjugateTranspose Unique UniqueV2
        UniqueWithCounts UniqueWithCountsV2 Unpack UnravelIndex UpperBound Where ZerosLike""",
    "lists of tensors": """
        EmptyTensorList TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayGradV3
        TensorArrayGradWithShape TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3
        TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3 TensorListConcat TensorListConcatLists
        TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather
        TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack
        TensorListPushBackBatch TensorListReserve TensorListResize TensorListScatter
        TensorListScatterIntoExistingList TensorListScatterV2 TensorListSetItem TensorListSplit
        TensorListStack""",
    "arithmetic": """
        Abs AccumulateNV2 Acos Acosh Add AddN AddV2 All Angle Any ApproximateEqual ApproxTopK ArgMax
        ArgMin Asin Asinh Atan Atan2 Atanh BesselI0 BesselI0e BesselI1 BesselI1e Betainc Bincount
        BitwiseAnd BitwiseOr BitwiseXor Bucketize Ceil ClipByValue Complex ComplexAbs Conj Cos Cosh
        Cross Cumprod Cumsum CumulativeLogsumexp DenseBincount Digamma Div DivNoNan Equal Erf Erfc
        Erfinv EuclideanNorm Exp Expm1 Floor FloorDiv FloorMod Greater GreaterEqual
        HistogramFixedWidth Igamma IgammaGradA Igammac Imag Inv InvGrad Invert IsFinite IsInf IsNan
        LeftShift Less LessEqual Lgamma LinSpace Log Log1p LogicalAnd LogicalNot LogicalOr Max
        Maximum Mean Min Minimum Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual NthElement
        Polygamma PopulationCount Pow Prod Real RealDiv Reciprocal ReciprocalGrad RightShift Rint
        Round Rsqrt RsqrtGrad SegmentMax SegmentMean SegmentMin SegmentProd SegmentSum Sigmoid
        SigmoidGrad Sign Sin Sinh Sqrt SqrtGrad Square SquaredDifference Sub Sum Tan Tanh TanhGrad
        ToBool TopK TopKV2 TruncateDiv TruncateMod UnsortedSegmentMax UnsortedSegmentMin
        UnsortedSegmentProd UnsortedSegmentSum Xdivy Xlog1py Xlogy Zeta""",
    "linear algebra": """
        BatchMatMul BatchMatMulV2 BatchMatMulV3 Cholesky CholeskyGrad Einsum FFT FFT2D FFT3D IFFT
        IFFT2D IFFT3D IRFFT IRFFT2D IRFFT3D LogMatrixDeterminant MatMul MatrixDeterminant
        MatrixInverse MatrixSolve MatrixSolveLs MatrixTriangularSolve Qr RFFT RFFT2D RFFT3D
        SelfAdjointEigV2 SparseMatMul Svd""",
    "neural networks": """
        AvgPool AvgPool3D AvgPool3DGrad AvgPoolGrad BatchNormWithGlobalNormalization BiasAdd
        BiasAddGrad BiasAddV1 Conv Conv2D Conv2DBackpropFilter Conv2DBackpropFilterV2
        Conv2DBackpropInput Conv2DBackpropInputV2 Conv3D Conv3DBackpropFilterV2
        Conv3DBackpropInputV2 DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter
        DepthwiseConv2dNativeBackpropInput Dilation2D Dilation2DBackpropFilter
        Dilation2DBackpropInput Elu EluGrad FractionalAvgPool FractionalAvgPoolGrad
        FractionalMaxPool FractionalMaxPoolGrad FusedBatchNorm FusedBatchNormGrad
        FusedBatchNormGradV2 FusedBatchNormGradV3 FusedBatchNormV2 FusedBatchNormV3 FusedPadConv2D
        FusedResizeAndPadConv2D InTopK InTopKV2 L2Loss LRN LRNGrad LeakyRelu LeakyReluGrad
        LogSoftmax MaxPool MaxPool3D MaxPool3DGrad MaxPool3DGradGrad MaxPoolGrad MaxPoolGradGrad
        MaxPoolGradGradV2 MaxPoolGradV2 MaxPoolGradWithArgmax MaxPoolV2 MaxPoolWithArgmax Relu Relu6
        Relu6Grad ReluGrad Selu SeluGrad Softmax SoftmaxCrossEntropyWithLogits Softplus
        SoftplusGrad Softsign SoftsignGrad SparseSoftmaxCrossEntropyWithLogits""",
    "quantization": """
        Dequantize FakeQuantWithMinMaxArgs FakeQuantWithMinMaxArgsGradient FakeQuantWithMinMaxVars
        FakeQuantWithMinMaxVarsGradient FakeQuantWithMinMaxVarsPerChannel
        FakeQuantWithMinMaxVarsPerChannelGradient QuantizeAndDequantize QuantizeAndDequantizeV2
        QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 QuantizeDownAndShrinkRange QuantizeV2
        QuantizedAdd QuantizedAvgPool QuantizedBiasAdd QuantizedConcat QuantizedConv2D
        QuantizedDepthwiseConv2D QuantizedMatMul QuantizedMaxPool QuantizedMul QuantizedRelu
        QuantizedRelu6 QuantizedReshape RequantizationRange Requantize""",
    "random numbers": """
        Multinomial ParameterizedTruncatedNormal RandomCrop RandomGamma RandomGammaGrad
        RandomIndexShuffle RandomPoisson RandomPoissonV2 RandomShuffle RandomStandardNormal
        RandomUniform RandomUniformInt RngReadAndSkip RngSkip StatefulRandomBinomial
        StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt
        StatefulUniformInt StatelessMultinomial StatelessParameterizedTruncatedNormal
        StatelessRandomBinomial StatelessRandomGammaV2 StatelessRandomGammaV3 StatelessRandomGetAlg
        StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg StatelessRandomNormal
        StatelessRandomNormalV2 StatelessRandomPoisson StatelessRandomUniform
        StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomUniformInt
        StatelessRandomUniformIntV2 StatelessRandomUniformV2 StatelessShuffle
        StatelessTruncatedNormal StatelessTruncatedNormalV2 TruncatedNormal""",
    "images, from bytes in memory": """
        AdjustContrast AdjustContrastv2 AdjustHue AdjustSaturation CombinedNonMaxSuppression
        CropAndResize CropAndResizeGradBoxes CropAndResizeGradImage DecodeAndCropJpeg DecodeBmp
        DecodeGif DecodeImage DecodeJpeg DecodePng DrawBoundingBoxes DrawBoundingBoxesV2 EncodeJpeg
        EncodePng ExtractGlimpse ExtractGlimpseV2 ExtractJpegShape HSVToRGB
        ImageProjectiveTransformV2 ImageProjectiveTransformV3 NonMaxSuppression NonMaxSuppressionV2
        NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 RGBToHSV ResizeArea
        ResizeBicubic ResizeBicubicGrad ResizeBilinear ResizeBilinearGrad ResizeNearestNeighbor
        ResizeNearestNeighborGrad SampleDistortedBoundingBox SampleDistortedBoundingBoxV2
        ScaleAndTranslate ScaleAndTranslateGrad StatelessSampleDistortedBoundingBox""",
    "strings and records, in memory": """
        AsString DecodeBase64 DecodeCSV DecodeJSONExample DecodePaddedRaw DecodeRaw EditDistance
        EncodeBase64 ParseExample ParseExampleV2 ParseSequenceExample ParseSequenceExampleV2
        ParseSingleExample ParseSingleSequenceExample ParseTensor ReduceJoin RegexFullMatch
        RegexReplace SerializeTensor StaticRegexFullMatch StaticRegexReplace StringFormat
        StringJoin StringLength StringLower StringNGrams StringSplit StringSplitV2 StringStrip
        StringToHashBucket StringToHashBucketFast StringToHashBucketStrong StringToNumber
        StringUpper Substr UnicodeDecode UnicodeDecodeWithOffsets UnicodeEncode UnicodeScript
        UnicodeTranscode UnsortedSegmentJoin
        AudioSummary AudioSummaryV2 HistogramSummary ImageSummary MergeSummary ScalarSummary
        TensorSummary TensorSummaryV2""",
    "sparse and ragged": """
        DeserializeSparse RaggedBincount RaggedGather RaggedRange RaggedTensorFromVariant
        RaggedTensorToSparse RaggedTensorToTensor RaggedTensorToVariant
        RaggedTensorToVariantGradient SerializeSparse SparseAdd SparseAddGrad SparseBincount
        SparseConcat SparseCross SparseCrossHashed SparseCrossV2 SparseDenseCwiseAdd
        SparseDenseCwiseDiv SparseDenseCwiseMul SparseFillEmptyRows SparseFillEmptyRowsGrad
        SparseReduceMax SparseReduceSum SparseReorder SparseReshape SparseSegmentMean
        SparseSegmentMeanGrad SparseSegmentMeanWithNumSegments SparseSegmentSqrtN
        SparseSegmentSqrtNGrad SparseSegmentSqrtNWithNumSegments SparseSegmentSum
        SparseSegmentSumWithNumSegments SparseSlice SparseSliceGrad SparseSoftmax SparseSplit
        SparseTensorDenseAdd SparseTensorDenseMatMul SparseToDense""",
}

ALLOWED: frozenset[str] = frozenset(name for group in _GROUPS.values() for name in group.split())
"""Operations that a model may use anywhere."""

RESTORE: frozenset[str] = frozenset({"RestoreV2"})
"""Allowed where the loader restores variables from the file that it names."""

SAVE: frozenset[str] = frozenset({"MergeV2Checkpoints", "SaveV2", "ShardedFilename"})
"""Allowed where only the saver reaches them, which nasnet never calls."""

_UNREACHED = """
    EagerPyFunc FIFOQueue FIFOQueueV2 FixedLengthRecordReaderV2 IdentityReaderV2
    InitializeTableFromDataset Iterator IteratorFromStringHandle IteratorFromStringHandleV2
    IteratorGetNext IteratorGetNextSync IteratorToStringHandle IteratorV2
    LearnedUnigramCandidateSampler LogUniformCandidateSampler MakeIterator OneShotIterator
    PaddingFIFOQueueV2 Print PrintV2 PyFunc QueueCloseV2 QueueDequeueManyV2 QueueDequeueUpToV2
    QueueDequeueV2 QueueEnqueueManyV2 QueueEnqueueV2 QueueIsClosedV2 QueueSizeV2
    RandomShuffleQueueV2 ReaderReadUpToV2 ReaderReadV2 Save SaveSlices SummaryWriter
    TFRecordReaderV2 TextLineReaderV2 Timestamp UniformCandidateSampler WholeFileReaderV2 WriteFile
    WriteHistogramSummary WriteImageSummary WriteScalarSummary WriteSummary
    BatchDatasetV2 MapDataset ModelDataset OptimizeDataset OptionsDataset PaddedBatchDatasetV2
    ParallelMapDataset ParallelMapDatasetV2 PrefetchDataset RangeDataset RepeatDataset ShardDataset
    ShuffleDatasetV2 ShuffleDatasetV3 SkipDataset TFRecordDataset TFRecordDatasetV2 TakeDataset
    TensorDataset TensorSliceDataset TextLineDataset ZipDataset"""

UNREACHED: frozenset[str] = frozenset(_UNREACHED.split())
"""Left in a graph by its training and allowed where nothing reaches them.

TensorFlow takes none of them for constant, so it does not run them while it loads a graph: they
have state or only describe a data set."""

TABLE_FILES: frozenset[str] = frozenset(
    {"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"}
)
"""Allowed where the file is one of the model's own assets."""
